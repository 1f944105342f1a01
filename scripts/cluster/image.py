#!/usr/bin/env python3
"""Makes a container image of one program: the program, the shared libraries it is linked
with (as this machine has them), certificates, a user. No base image, no registry. The
same content gives the same bytes, and the tag is the digest of the content.

Usage: image.py ref   NAME PROGRAM [options]    prints the image's reference
       image.py write NAME PROGRAM [options]    writes it (an OCI archive) to stdout
"""

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile

USER = 65532
PASSWD = f"root:x:0:0:root:/:/sbin/nologin\nbam:x:{USER}:{USER}:bam:/tmp:/sbin/nologin\n"
GROUP = f"root:x:0:\nbam:x:{USER}:\n"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Digests:
    """Digests of files, remembered by what stat says of them: libtorch is half a gigabyte."""

    def __init__(self, path):
        self.path = path
        self.known = {}
        try:
            with open(path, encoding="utf-8") as file:
                self.known = json.load(file)
        except (OSError, ValueError, TypeError):
            pass

    def of(self, path):
        stat = os.stat(path)
        seen = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = self.known.get(path)
        if entry and entry[:3] == seen:
            return entry[3]
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else slow_digest(file)
        self.known[path] = [*seen, digest.hexdigest()]
        return digest.hexdigest()

    def save(self):
        if self.path:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            partial = f"{self.path}.{os.getpid()}"
            with open(partial, "w", encoding="utf-8") as file:
                json.dump(self.known, file)
            os.replace(partial, self.path)


def slow_digest(file):
    digest = hashlib.sha256()
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest


def shared_libraries(program):
    """What the dynamic linker would load, as absolute paths; none for a static program."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LD_")}
    # A static program makes ldd fail, and that is fine.
    found = subprocess.run(["ldd", program], capture_output=True, text=True, env=environment, check=False)
    libraries = []
    for line in found.stdout.splitlines():
        name, arrow, rest = line.strip().partition(" => ")
        path = (rest if arrow else name).rsplit(" (", 1)[0].strip()
        if path == "not found":
            sys.exit(f"error: {program} needs {name}, which this machine does not have")
        if path.startswith("/"):
            libraries.append(path)
    return libraries


def place(path, tree):
    """Where a library goes: those below `tree` move to /usr/local, where the program's
    run path ($ORIGIN/../…) finds them; the linker's own folders stay as they are."""
    if tree:
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        below = os.path.relpath(real, os.path.realpath(tree))
        if not below.startswith(".."):
            return "/usr/local/" + below
    return os.path.normpath(path)


def layers(arguments):
    """Two lists of (path in the image, source file or bytes, mode): what rarely changes, and the program."""
    base = {"/etc/passwd": (PASSWD.encode(), 0o644), "/etc/group": (GROUP.encode(), 0o644)}
    if os.path.exists(CERTIFICATES):
        base[CERTIFICATES] = (os.path.realpath(CERTIFICATES), 0o644)
    for library in shared_libraries(arguments.program):
        base[place(library, arguments.tree)] = (os.path.realpath(library), 0o755)
    program = {f"/usr/local/bin/{arguments.name}": (os.path.realpath(arguments.program), 0o755)}
    return [[(path, *what) for path, what in sorted(layer.items())] for layer in (base, program)]


def entry(path, mode, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(path.strip("/"))
    info.mode, info.type, info.size, info.mtime = mode, kind, size, 0
    return info


def write_layer(layer, out):
    folders = {"/tmp": 0o1777}
    for path, _, _ in layer:
        while (path := os.path.dirname(path)) != "/":
            folders[path] = 0o755
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as tar:
        for path, mode in sorted(folders.items()):
            tar.addfile(entry(path, mode, tarfile.DIRTYPE))
        for path, source, mode in layer:
            if isinstance(source, bytes):
                tar.addfile(entry(path, mode, size=len(source)), io.BytesIO(source))
            else:
                with open(source, "rb") as file:
                    tar.addfile(entry(path, mode, size=os.fstat(file.fileno()).st_size), file)


class Counter:
    """A place to write to that keeps the digest and the size alone."""

    def __init__(self):
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data):
        self.hash.update(data)
        self.size += len(data)
        return len(data)


def config_of(name, diff_ids):
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": f"{USER}:{USER}",
            "Env": ["PATH=/usr/local/bin", f"SSL_CERT_FILE={CERTIFICATES}"],
            "Entrypoint": [f"/usr/local/bin/{name}"],
            "WorkingDir": "/tmp",
        },
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }


def reference(arguments, content):
    if arguments.tag:
        return f"localhost/{arguments.name}:{arguments.tag}"
    digests = Digests(arguments.digests)
    listed = [
        [path, mode, hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else digests.of(source)]
        for layer in content
        for path, source, mode in layer
    ]
    digests.save()
    whole = json.dumps([config_of(arguments.name, []), listed], sort_keys=True)
    return f"localhost/{arguments.name}:{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def write(arguments, content, out):
    counters = [Counter() for _ in content]
    for layer, counter in zip(content, counters):
        write_layer(layer, counter)
    archive = tarfile.open(fileobj=out, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20)

    def add(path, data):
        archive.addfile(entry(path, 0o644, size=len(data)), io.BytesIO(data))

    def blob(kind, document):
        data = json.dumps(document, sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()
        add(f"blobs/sha256/{digest}", data)
        return {"mediaType": f"application/vnd.oci.image.{kind}.v1+json", "digest": f"sha256:{digest}", "size": len(data)}

    for layer, counter in zip(content, counters):
        archive.addfile(entry(f"blobs/sha256/{counter.hash.hexdigest()}", 0o644, size=counter.size), Pipe(layer))
    config = blob("config", config_of(arguments.name, [f"sha256:{counter.hash.hexdigest()}" for counter in counters]))
    manifest = blob(
        "manifest",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": f"sha256:{counter.hash.hexdigest()}",
                    "size": counter.size,
                }
                for counter in counters
            ],
        },
    )
    name = reference(arguments, content)
    manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.split(":")[-1]}
    add("index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}, sort_keys=True).encode())
    add("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    archive.close()


class Pipe:
    """A layer as something to read from: a child process makes it, so that it is never whole anywhere."""

    def __init__(self, layer):
        read_end, write_end = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            # Whatever happens, the child must not go on with the parent's work. A layer
            # that is too short is an error there.
            try:
                os.close(read_end)
                with os.fdopen(write_end, "wb") as out:
                    write_layer(layer, out)
            finally:
                os._exit(0)
        os.close(write_end)
        self.file = os.fdopen(read_end, "rb")

    def read(self, size):
        return self.file.read(size)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["ref", "write"])
    parser.add_argument("name", help="the image's name, and the program's in it")
    parser.add_argument("program", help="the program on this machine")
    parser.add_argument("--tree", help="libraries below this folder go below /usr/local")
    parser.add_argument("--tag", help="instead of the digest of the content")
    parser.add_argument("--digests", help="a file that remembers digests between calls")
    arguments = parser.parse_args()
    content = layers(arguments)
    if arguments.action == "ref":
        print(reference(arguments, content))
    else:
        write(arguments, content, sys.stdout.buffer)


if __name__ == "__main__":
    main()
