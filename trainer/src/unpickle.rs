//! Reads the pickles in which the reference keeps a model's predictions: a `dict` from example ids to NumPy float vectors
//! (the logits of a classification) or numbers (a regression).
//!
//! A pickle is a program for a stack machine that may call any function. This machine knows the few instructions that CPython
//! and NumPy write for such a dict (protocols 2 to 5, Python 2 included) and five names of NumPy, for which it makes plain
//! data; it calls nothing, and everything else is an error that says where. Memory stays within a small multiple of
//! the file, with a bound that does not depend on it. `pickletools` describes the instructions, `pickle` writes them.

use std::collections::HashSet;

/// Values that may lie on the stack at once; CPython hands a dict over in batches of a thousand entries.
const MOST_ON_STACK: usize = 1 << 16;
/// Values that may be in the memo, in tuples, or in the dict: forty times what the largest task of GLUE has of rows.
const MOST_VALUES: usize = 1 << 24;

/// Reads a pickle of predictions: example ids, and their outputs [rows, width], row by row. A `width` of 1 may be bare numbers.
///
/// # Errors
/// What is wrong and at which byte, if it is no such pickle or a row is not as wide.
pub fn predictions(bytes: &[u8], width: usize) -> Result<(Vec<u32>, Vec<f32>), String> {
    let mut machine = Machine { bytes, ..Machine::default() };
    let entries = machine.run().map_err(|what| format!("byte {}: {what}", machine.at))?;
    let mut seen = HashSet::new();
    let (mut eids, mut outputs) = (Vec::with_capacity(entries.len()), Vec::new());
    for (eid, value) in entries {
        let eid = u32::try_from(eid).map_err(|_| format!("{eid} is no example id"))?;
        if !seen.insert(eid) {
            return Err(format!("the example id {eid} stands twice"));
        }
        eids.push(eid);
        machine.outputs(value, width, &mut outputs).map_err(|what| format!("the example id {eid} {what}"))?;
        // Each number has at least four bytes of its own.
        if outputs.len() > bytes.len() / 4 {
            return Err("rows share their outputs".to_owned());
        }
    }
    Ok((eids, outputs))
}

/// What lies on the stack. Text is bytes: Python 2 knew no difference.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value<'a> {
    None,
    Bool,
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
    /// A range of [`Machine::items`].
    Tuple(usize, usize),
    Name(Name),
    Type(Type),
    /// A place in [`Machine::arrays`].
    Array(usize),
    /// The one dict.
    Dict,
}

/// What NumPy's pickles refer to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Name {
    Dtype,
    Ndarray,
    Reconstruct,
    FromBuffer,
    Scalar,
}

impl Name {
    /// `numpy._core` is NumPy 2's name of `numpy.core`.
    fn find(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"numpy", b"dtype") => Self::Dtype,
            (b"numpy", b"ndarray") => Self::Ndarray,
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Self::Reconstruct,
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"scalar") => Self::Scalar,
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => Self::FromBuffer,
            _ => return None,
        })
    }
}

/// Numbers in an array, little-endian.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    F32,
    F64,
    I32,
    I64,
}

impl Type {
    fn find(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"f4" => Self::F32,
            b"f8" => Self::F64,
            b"i4" => Self::I32,
            b"i8" => Self::I64,
            _ => return None,
        })
    }

    fn size(self) -> usize {
        if matches!(self, Self::F32 | Self::I32) { 4 } else { 8 }
    }

    /// One number of as many bytes.
    fn number<'a>(self, bytes: &[u8]) -> Option<Value<'a>> {
        Some(match self {
            Self::F32 => Value::Float(f32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::F64 => Value::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
            Self::I32 => Value::Int(i32::from_le_bytes(bytes.try_into().ok()?).into()),
            Self::I64 => Value::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
        })
    }
}

/// An array of one dimension or none.
#[derive(Clone, Copy, Debug)]
struct Array<'a> {
    kind: Type,
    /// A whole number of numbers.
    data: &'a [u8],
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    /// Contents of all tuples.
    items: Vec<Value<'a>>,
    /// Arrays; empty ones wait for their content.
    arrays: Vec<Option<Array<'a>>>,
    entries: Option<Vec<(i64, Value<'a>)>>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Vec<(i64, Value<'a>)>, String> {
        while self.step()? {}
        match (self.pop()?, self.entries.take()) {
            (Value::Dict, Some(entries)) => Ok(entries),
            _ => Err("it holds no dict".to_owned()),
        }
    }

    /// Carries out one instruction; false: it was the last one.
    fn step(&mut self) -> Result<bool, String> {
        let [opcode] = self.word()?;
        match opcode {
            b'.' => return Ok(false),               // STOP
            0x80 => self.protocol()?,               // PROTO
            0x95 => _ = self.word::<8>()?,          // FRAME: only tells how much to read at once
            b'0' => _ = self.pop()?,                // POP
            b'(' => self.mark()?,                   // MARK
            b'N' => self.push(Value::None)?,        // NONE
            0x88 | 0x89 => self.push(Value::Bool)?, // NEWTRUE, NEWFALSE
            b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(opcode)?,
            b'C' | b'U' | 0x8c | b'B' | b'T' | b'X' | 0x8e | 0x96 => self.text(opcode)?,
            b')' | 0x85..=0x87 | b't' => self.tuple(opcode)?,
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember(opcode)?,
            b'}' => self.dict()?, // EMPTY_DICT
            b's' => {
                // SETITEM
                let from = self.stack.len().checked_sub(2).ok_or("the stack is empty")?;
                self.set(from)?;
            }
            b'u' => {
                // SETITEMS
                let from = self.marks.pop().ok_or("there is no mark")?;
                self.set(from)?;
            }
            b'c' | 0x93 => self.name(opcode)?,
            b'R' => self.call()?,  // REDUCE
            b'b' => self.build()?, // BUILD
            other => return Err(format!("the instruction {other:#04x} stands in no file of predictions")),
        }
        Ok(true)
    }

    // ----- the program's bytes

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or("the file ends too early")?;
        self.at += count;
        Ok(taken)
    }

    fn word<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("as many were taken"))
    }

    fn line(&mut self) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n').ok_or("the file ends too early")?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.word()? {
            [2..=5] => Ok(()),
            [other] => Err(format!("pickle protocol {other} is not known; known are 2 to 5")),
        }
    }

    // ----- the stack

    fn push(&mut self, value: Value<'a>) -> Result<(), String> {
        if self.stack.len() == MOST_ON_STACK {
            return Err("too many values lie on the stack".to_owned());
        }
        self.stack.push(value);
        Ok(())
    }

    /// Values below a mark are out of reach.
    fn pop(&mut self) -> Result<Value<'a>, String> {
        let height = self.stack.len().checked_sub(1).ok_or("the stack is empty")?;
        self.reach(height)?;
        Ok(self.stack.remove(height))
    }

    fn mark(&mut self) -> Result<(), String> {
        if self.marks.len() == MOST_ON_STACK {
            return Err("too many marks lie on the stack".to_owned());
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn number(&mut self, opcode: u8) -> Result<(), String> {
        let value = match opcode {
            b'K' => Value::Int(self.word::<1>()?[0].into()),             // BININT1
            b'M' => Value::Int(u16::from_le_bytes(self.word()?).into()), // BININT2
            b'J' => Value::Int(i32::from_le_bytes(self.word()?).into()), // BININT
            b'G' => Value::Float(f64::from_be_bytes(self.word()?)),      // BINFLOAT
            // LONG1: little-endian, as short as it can be.
            _ => {
                let [length] = self.word()?;
                let digits = self.take(length.into())?;
                let sign = if digits.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
                let mut whole = [sign; 8];
                whole.get_mut(..digits.len()).ok_or("a number has more than 64 bits")?.copy_from_slice(digits);
                Value::Int(i64::from_le_bytes(whole))
            }
        };
        self.push(value)
    }

    fn text(&mut self, opcode: u8) -> Result<(), String> {
        let length = match opcode {
            b'C' | b'U' | 0x8c => self.word::<1>()?[0].into(), // SHORT_BINBYTES, SHORT_BINSTRING, SHORT_BINUNICODE
            b'B' | b'T' | b'X' => u32::from_le_bytes(self.word()?).into(), // BINBYTES, BINSTRING, BINUNICODE
            _ => u64::from_le_bytes(self.word()?),             // BINBYTES8, BYTEARRAY8
        };
        let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        self.push(Value::Bytes(bytes))
    }

    fn tuple(&mut self, opcode: u8) -> Result<(), String> {
        let from = match opcode {
            b't' => self.marks.pop().ok_or("there is no mark")?, // TUPLE
            b')' => self.stack.len(),                            // EMPTY_TUPLE
            _ => {
                // TUPLE1, TUPLE2, TUPLE3
                let length = usize::from(opcode - 0x84);
                self.stack.len().checked_sub(length).ok_or("the stack is empty")?
            }
        };
        self.reach(from)?;
        let start = self.items.len();
        self.items.extend(self.stack.drain(from..));
        if self.items.len() > MOST_VALUES {
            return Err("there are too many tuples".to_owned());
        }
        self.push(Value::Tuple(start, self.items.len()))
    }

    /// Whether no mark stands above a height of the stack.
    fn reach(&self, height: usize) -> Result<(), String> {
        match self.marks.last() {
            Some(&mark) if mark > height => Err("a mark is in the way".to_owned()),
            _ => Ok(()),
        }
    }

    /// Puts the value on top of the stack into the memo, or gets one from there.
    fn remember(&mut self, opcode: u8) -> Result<(), String> {
        let slot = match opcode {
            b'q' | b'h' => self.word::<1>()?[0].into(),               // BINPUT, BINGET
            b'r' | b'j' => u32::from_le_bytes(self.word()?) as usize, // LONG_BINPUT, LONG_BINGET
            _ => self.memo.len(),                                     // MEMOIZE
        };
        if matches!(opcode, b'h' | b'j') {
            let value = *self.memo.get(slot).ok_or_else(|| format!("there is nothing in memo {slot}"))?;
            return self.push(value);
        }
        let value = self.pop()?;
        self.push(value)?;
        // Slots are counted up, in Python 2 from 1.
        if slot > self.memo.len() + 1 || slot >= MOST_VALUES {
            return Err(format!("memo {slot} comes too early"));
        }
        if slot >= self.memo.len() {
            self.memo.resize(slot + 1, Value::None);
        }
        self.memo[slot] = value;
        Ok(())
    }

    // ----- the dict

    fn dict(&mut self) -> Result<(), String> {
        if self.entries.replace(Vec::new()).is_some() {
            return Err("there is more than one dict".to_owned());
        }
        self.push(Value::Dict)
    }

    /// Moves keys and values that lie from a height of the stack on into the dict below them.
    fn set(&mut self, from: usize) -> Result<(), String> {
        self.reach(from)?;
        let pairs: Vec<_> = self.stack.drain(from..).collect();
        let (pairs, []) = pairs.as_chunks::<2>() else {
            return Err("a key has no value".to_owned());
        };
        let (Value::Dict, Some(entries)) = (self.pop()?, &mut self.entries) else {
            return Err("entries belong to no dict".to_owned());
        };
        for [key, value] in pairs {
            let Value::Int(eid) = *key else {
                return Err("a key of the dict is no example id".to_owned());
            };
            entries.push((eid, *value));
        }
        if entries.len() > MOST_VALUES {
            return Err("the dict has too many entries".to_owned());
        }
        self.push(Value::Dict)
    }

    // ----- NumPy's objects

    fn name(&mut self, opcode: u8) -> Result<(), String> {
        let (module, name) = if opcode == b'c' {
            (self.line()?, self.line()?) // GLOBAL
        } else {
            let (name, module) = (self.pop()?, self.pop()?); // STACK_GLOBAL
            match (module, name) {
                (Value::Bytes(module), Value::Bytes(name)) => (module, name),
                _ => return Err("a name is no text".to_owned()),
            }
        };
        let found = Name::find(module, name).ok_or_else(|| {
            let shown = |text: &[u8]| text[..text.len().min(40)].escape_ascii().to_string();
            format!("it refers to {}.{}, which belongs in no file of predictions", shown(module), shown(name))
        })?;
        self.push(Value::Name(found))
    }

    fn call(&mut self) -> Result<(), String> {
        let Value::Tuple(start, end) = self.pop()? else {
            return Err("arguments are no tuple".to_owned());
        };
        let function = self.pop()?;
        let value = match (function, &self.items[start..end]) {
            (Value::Name(Name::Dtype), &[Value::Bytes(name), ..]) => {
                Value::Type(Type::find(name).ok_or_else(|| unknown_type(name))?)
            }
            (Value::Name(Name::Scalar), &[Value::Type(kind), Value::Bytes(bytes)]) => {
                kind.number(bytes).ok_or("a number is too short or too long")?
            }
            (Value::Name(Name::Reconstruct), [Value::Name(Name::Ndarray), ..]) => self.array(None)?,
            (Value::Name(Name::FromBuffer), &[Value::Bytes(data), Value::Type(kind), shape, _]) => {
                let array = self.shaped(kind, shape, data)?;
                self.array(Some(array))?
            }
            _ => return Err("it calls something with arguments that stand in no file of predictions".to_owned()),
        };
        self.push(value)
    }

    fn array(&mut self, content: Option<Array<'a>>) -> Result<Value<'a>, String> {
        if self.arrays.len() == MOST_VALUES {
            return Err("there are too many arrays".to_owned());
        }
        self.arrays.push(content);
        Ok(Value::Array(self.arrays.len() - 1))
    }

    /// Gives a type its byte order, or an array its content.
    fn build(&mut self) -> Result<(), String> {
        let Value::Tuple(start, end) = self.pop()? else {
            return Err("a state is no tuple".to_owned());
        };
        let object = self.pop()?;
        match (object, &self.items[start..end]) {
            (Value::Type(_), &[_, Value::Bytes(b"<" | b"|"), Value::None, Value::None, Value::None, ..]) => {}
            (Value::Type(_), &[_, Value::Bytes(order), ..]) => return Err(unknown_type(order)),
            (Value::Array(place), &[_, shape, Value::Type(kind), _, Value::Bytes(data)]) => {
                self.arrays[place] = Some(self.shaped(kind, shape, data)?);
            }
            _ => return Err("a state stands in no file of predictions".to_owned()),
        }
        self.push(object)
    }

    fn shaped(&self, kind: Type, shape: Value<'a>, data: &'a [u8]) -> Result<Array<'a>, String> {
        let Value::Tuple(start, end) = shape else {
            return Err("an array's shape is no tuple".to_owned());
        };
        let count = match self.items[start..end] {
            [] => 1,
            [Value::Int(count)] => count,
            _ => return Err("an array has more than one dimension".to_owned()),
        };
        match usize::try_from(count).ok().and_then(|count| count.checked_mul(kind.size())) {
            Some(length) if length == data.len() => Ok(Array { kind, data }),
            _ => Err(format!("an array of {count} numbers has {} bytes", data.len())),
        }
    }

    /// The outputs of one row.
    fn outputs(&self, value: Value<'a>, width: usize, to: &mut Vec<f32>) -> Result<(), String> {
        match value {
            Value::Float(number) if width == 1 => to.push(number as f32),
            Value::Array(place) => {
                let Array { kind, data } = self.arrays[place].ok_or("has an array without content")?;
                let found = data.len() / kind.size();
                if found != width {
                    return Err(format!("has {found} outputs, and the task has {width}"));
                }
                match kind {
                    Type::F32 => to.extend(data.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number))),
                    Type::F64 => to.extend(data.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number) as f32)),
                    _ => return Err("has outputs that are whole numbers".to_owned()),
                }
            }
            Value::Float(_) => return Err(format!("has one output, and the task has {width}")),
            _ => return Err("has something else than outputs".to_owned()),
        }
        Ok(())
    }
}

fn unknown_type(what: &[u8]) -> String {
    let what = what[..what.len().min(20)].escape_ascii();
    format!("numbers of the type {what} are not read; little-endian f4, f8, i4 and i8 are")
}

#[cfg(test)]
#[path = "unpickle_tests.rs"]
mod tests;
