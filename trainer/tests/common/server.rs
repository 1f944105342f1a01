//! An HTTP server that misbehaves to order. It is written on sockets, since no library cuts a connection in the middle.
#![allow(dead_code)] // each test file uses its own part

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// What a server does instead of answering well, once.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Sends so many bytes of the content, and hangs up.
    Cut(usize),
    /// Sends so many bytes of the content, and nothing more until the client hangs up.
    Stall(usize),
    /// Sends all of it, and does not say how much that is.
    Unmeasured,
    /// Answers with this status and these headers.
    Status(u16, &'static str),
}

/// A file that is served.
#[derive(Clone, Debug)]
pub struct Page {
    pub content: Vec<u8>,
    pub etag: Option<String>,
    /// Can it send a part?
    pub ranges: bool,
    /// What goes wrong first, second, …
    pub faults: VecDeque<Fault>,
    /// Goes with every answer: lines that end with CRLF.
    pub headers: String,
    /// It is elsewhere.
    pub location: Option<String>,
}

impl Page {
    pub fn new(content: impl Into<Vec<u8>>) -> Self {
        let content = content.into();
        let etag = Some(format!("\"{}\"", bam_crds::Digest::of_bytes(&content).short()));
        Self { content, etag, ranges: true, faults: VecDeque::new(), headers: String::new(), location: None }
    }

    pub fn with(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
        self
    }
}

/// What a client asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// Method and target, as they stand in the request.
    pub line: String,
    /// Headers by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// Bytes of content that were sent.
    pub sent: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

#[derive(Default)]
struct Shared {
    pages: BTreeMap<String, Page>,
    asked: Vec<Asked>,
}

/// Serves until the test ends.
pub struct Server {
    /// Ends with a slash.
    pub url: String,
    shared: Arc<Mutex<Shared>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let shared = Arc::<Mutex<Shared>>::default();
        let serving = shared.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let shared = serving.clone();
                // A client that hangs up ends its connection and nothing else.
                thread::spawn(move || drop(serve(client.unwrap(), &shared)));
            }
        });
        Self { url, shared }
    }

    pub fn put(&self, path: &str, page: Page) {
        self.shared().pages.insert(path.to_owned(), page);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared().asked.clone()
    }

    /// The paths that were asked for, in order.
    pub fn paths(&self) -> Vec<String> {
        self.asked().iter().map(|asked| asked.line.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }
}

fn serve(mut client: TcpStream, shared: &Mutex<Shared>) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    loop {
        let mut asked = Asked::default();
        reader.read_line(&mut asked.line)?;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            asked.headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        if asked.line.starts_with("CONNECT ") {
            // It is every proxy, and behind it every host.
            shared.lock().unwrap().asked.push(asked);
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
            continue;
        }
        let path = asked.line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (page, fault, number) = {
            let mut shared = shared.lock().unwrap();
            let page = shared.pages.get_mut(&path);
            let fault = page.and_then(|page| page.faults.pop_front());
            shared.asked.push(asked.clone());
            (shared.pages.get(&path).cloned(), fault, shared.asked.len() - 1)
        };
        let (head, body, stall) = answer(page, fault, &asked);
        client.write_all(head.as_bytes())?;
        client.write_all(&body)?;
        client.flush()?;
        shared.lock().unwrap().asked[number].sent = body.len();
        if stall {
            let _ = reader.read_line(&mut String::new());
        }
        return Ok(());
    }
}

/// Head, body, and whether to wait then.
fn answer(page: Option<Page>, fault: Option<Fault>, asked: &Asked) -> (String, Vec<u8>, bool) {
    let Some(page) = page else {
        return (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
            Vec::new(),
            false,
        );
    };
    if let Some(Fault::Status(status, headers)) = fault {
        let head = format!("HTTP/1.1 {status} No\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n");
        return (head, Vec::new(), false);
    }
    if let Some(location) = page.location {
        let head = format!(
            "HTTP/1.1 302 Found\r\nlocation: {location}\r\n{}content-length: 0\r\nconnection: close\r\n\r\n",
            page.headers
        );
        return (head, Vec::new(), false);
    }
    let from = asked.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let same = asked.header("if-range").is_none_or(|etag| Some(etag) == page.etag.as_deref());
    let total = page.content.len();
    let (status, content, range) = match from.filter(|_| page.ranges && same) {
        Some(from) if from >= total => ("416 No", Vec::new(), format!("content-range: bytes */{total}\r\n")),
        Some(from) => {
            let range = format!("content-range: bytes {from}-{}/{total}\r\n", total - 1);
            ("206 Part", page.content[from..].to_vec(), range)
        }
        None => ("200 OK", page.content, String::new()),
    };
    let etag = page.etag.map(|etag| format!("etag: {etag}\r\n")).unwrap_or_default();
    let length = content.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{range}{etag}{}content-length: {length}\r\nconnection: close\r\n\r\n",
        page.headers
    );
    match fault {
        Some(Fault::Cut(bytes)) => (head, content[..bytes.min(length)].to_vec(), false),
        Some(Fault::Unmeasured) => (head.replace(&format!("content-length: {length}\r\n"), ""), content, false),
        Some(Fault::Stall(bytes)) => (head, content[..bytes.min(length)].to_vec(), true),
        _ => (head, content, false),
    }
}
