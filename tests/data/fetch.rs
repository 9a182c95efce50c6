//! Fetching from a server on this machine that truncates, corrupts, ignores ranges and fails.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backpack_run::Error;
use backpack_run::problems::data::obtain::download::{Download, Rate, part_path};
use backpack_run::problems::data::obtain::{FileState, Silent, fetch, verify};
use backpack_run::problems::data::{DataFolders, Digest, Published, PublishedFile, published};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// What the server does with a request.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    /// Answers as it should, ranges included.
    Proper,
    /// Announces everything, then closes the connection after so many bytes.
    Truncate(usize),
    /// Changes a byte.
    Corrupt,
    /// Sends everything though a range was asked for.
    IgnoreRange,
    /// Answers a range with bytes from elsewhere.
    WrongRange,
    /// Answers with a status and no file.
    Status(u16),
    /// Sends more than it should, without announcing how much.
    Endless,
    /// Sends byte after byte, with a pause after each.
    Drip,
}

/// Path and range of a request.
type Request = (String, Option<String>);

struct Server {
    address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

/// Serves files by path; each request meets the next behaviour, and the last one stays.
fn serve(files: Vec<(String, Vec<u8>)>, behaviours: &[Behaviour]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let (log, mut behaviours) = (requests.clone(), VecDeque::from(behaviours.to_vec()));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let path = first.split(' ').nth(1).unwrap().to_owned();
            let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
            let range = headers.iter().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("range").then(|| value.trim().to_owned())
            });
            log.lock().unwrap().push((path.clone(), range.clone()));
            let behaviour = if behaviours.len() > 1 { behaviours.pop_front() } else { behaviours.front().copied() };
            let file = files.iter().find(|(name, _)| *name == path).map(|(_, content)| content.as_slice());
            // The client closes the connection when it has seen enough.
            let _ = answer(&mut stream, file, range.as_deref(), behaviour.unwrap());
        }
    });
    Server { address, requests }
}

fn answer(out: &mut impl Write, file: Option<&[u8]>, range: Option<&str>, behaviour: Behaviour) -> std::io::Result<()> {
    let Some(file) = file else { return out.write_all(b"HTTP/1.1 404 None\r\nContent-Length: 0\r\n\r\n") };
    let start = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()).unwrap_or(0);
    let mut body = file[start..].to_vec();
    let mut head = match start {
        0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len()),
        _ => format!(
            "HTTP/1.1 206 Part\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n",
            body.len(),
            file.len() - 1,
            file.len()
        ),
    };
    match behaviour {
        Behaviour::Proper => {}
        Behaviour::Truncate(count) => body.truncate(count),
        Behaviour::Drip => {
            out.write_all(head.as_bytes())?;
            out.write_all(b"\r\n")?;
            return body.iter().try_for_each(|byte| {
                std::thread::sleep(Duration::from_millis(10));
                out.write_all(&[*byte])
            });
        }
        Behaviour::Corrupt => body[0] ^= 1,
        Behaviour::IgnoreRange => {
            body = file.to_vec();
            head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
        }
        Behaviour::WrongRange => {
            head = format!("HTTP/1.1 206 Part\r\nContent-Range: bytes 1-{}/{}\r\n", file.len() - 1, file.len())
        }
        Behaviour::Status(status) => {
            return write!(out, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Behaviour::Endless => {
            head = "HTTP/1.1 200 OK\r\n".to_owned();
            body.extend(vec![0; 1 << 20]);
        }
    }
    out.write_all(head.as_bytes())?;
    out.write_all(b"Connection: close\r\n\r\n")?;
    out.write_all(&body)
}

fn content() -> Vec<u8> {
    (0..300_000u32).flat_map(|value| value.to_le_bytes()).take(1_000_003).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn download(servers: &[&Server], folder: &TempDir) -> Download {
    Download {
        urls: servers.iter().map(|server| format!("{}/file", server.address)).collect(),
        target: folder.path().join("below").join("file"),
        size: content().len() as u64,
        sha256: sha256(&content()),
        attempts: 3,
        pause: Duration::from_millis(1),
        least: Rate { bytes: 1000, window: Duration::from_millis(500) },
    }
}

fn one_file(behaviours: &[Behaviour]) -> Server {
    serve(vec![("/file".to_owned(), content())], behaviours)
}

#[track_caller]
fn is_whole(target: &Path) {
    assert!(std::fs::read(target).unwrap() == content(), "the file is what was published");
    assert!(!part_path(target).exists(), "nothing is left beside it");
}

fn ranges(server: &Server) -> Vec<Option<String>> {
    server.requests.lock().unwrap().iter().map(|(_, range)| range.clone()).collect()
}

fn put_part(download: &Download, bytes: &[u8]) {
    let part = part_path(&download.target);
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::fs::write(part, bytes).unwrap();
}

#[test]
fn a_truncated_transfer_is_resumed_where_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let server = one_file(&[Behaviour::Truncate(1000), Behaviour::Truncate(5000), Behaviour::Proper]);
    let download = download(&[&server], &folder);
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
    let asked = ranges(&server);
    assert_eq!(asked, [None, Some("bytes=1000-".to_owned()), Some("bytes=6000-".to_owned())]);
}

#[test]
fn a_later_call_resumes_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = one_file(&[Behaviour::Proper]);
    let download = download(&[&server], &folder);
    put_part(&download, &content()[..123_456]);
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
    assert_eq!(ranges(&server), [Some("bytes=123456-".to_owned())]);
}

#[test]
fn a_corrupt_file_is_not_kept_and_the_next_mirror_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (bad, good) = (one_file(&[Behaviour::Corrupt]), one_file(&[Behaviour::Proper]));
    let download = download(&[&bad, &good], &folder);
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
    assert_eq!((ranges(&bad).len(), ranges(&good)), (1, vec![None]), "nothing of the corrupt file was used");
}

#[test]
fn a_server_that_ignores_ranges_sends_all_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = one_file(&[Behaviour::Truncate(70_000), Behaviour::IgnoreRange]);
    let download = download(&[&server], &folder);
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
    assert_eq!(ranges(&server), [None, Some("bytes=70000-".to_owned())]);
}

#[test]
fn bytes_of_another_file_cost_one_fresh_start() {
    for wrong in [vec![7; 1000], vec![7; content().len()], vec![7; content().len() + 5]] {
        let folder = tempfile::tempdir().unwrap();
        let server = one_file(&[Behaviour::Proper]);
        let download = download(&[&server], &folder);
        put_part(&download, &wrong);
        download.run(&mut Silent).unwrap();
        is_whole(&download.target);
        assert_eq!(ranges(&server).last(), Some(&None), "{}", wrong.len());
    }
    let folder = tempfile::tempdir().unwrap();
    let server = one_file(&[Behaviour::Truncate(1000), Behaviour::WrongRange, Behaviour::Proper]);
    let download = download(&[&server], &folder);
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
}

#[test]
fn what_may_pass_is_retried_and_what_lasts_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (gone, busy) = (
        one_file(&[Behaviour::Status(404)]),
        one_file(&[Behaviour::Status(503), Behaviour::Status(429), Behaviour::Proper]),
    );
    let download = download(&[&gone, &busy], &folder);
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
    assert_eq!((ranges(&gone).len(), ranges(&busy).len()), (1, 3));
}

#[test]
fn failure_names_every_server_and_keeps_what_was_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [
        one_file(&[Behaviour::Status(403)]),
        serve(vec![("/file".to_owned(), vec![1; 10])], &[Behaviour::Proper]),
        one_file(&[Behaviour::Endless]),
        one_file(&[Behaviour::Truncate(4000), Behaviour::Status(500)]),
    ];
    let download = download(&servers.iter().collect::<Vec<_>>(), &folder);
    let error = download.run(&mut Silent).unwrap_err();
    assert!(matches!(error, Error::Environment(_)));
    let text = error.to_string();
    for word in
        ["status 403", "10 bytes instead of 1000003", "more than 1000003 bytes", "status 500", "BACKPACK_RUN_MIRROR"]
    {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    assert!(text.contains("4000 of 1000003 bytes are kept"), "{text}");
    assert!(!download.target.exists());
    assert_eq!(std::fs::read(part_path(&download.target)).unwrap(), content()[..4000]);
    assert_eq!(ranges(&servers[3]).len(), 1 + 3, "three attempts in a row without a byte, then no more");
}

#[test]
fn a_server_that_is_not_there_is_an_error_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = Server { address: format!("http://{}", listener.local_addr().unwrap()), requests: Arc::default() };
    drop(listener);
    let error = download(&[&server], &folder).run(&mut Silent).unwrap_err();
    assert_eq!(error.exit_code(), 3, "{error}");
}

#[test]
fn two_processes_do_not_write_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let server = one_file(&[Behaviour::Proper]);
    let download = download(&[&server], &folder);
    put_part(&download, b"");
    let other = std::fs::File::open(part_path(&download.target)).unwrap();
    fs4::FileExt::lock(&other).unwrap();
    let error = download.run(&mut Silent).unwrap_err().to_string();
    assert!(error.contains("another process"), "{error}");
    fs4::FileExt::unlock(&other).unwrap();
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
}

/// Whether byte after byte or answer after answer: what comes too slowly is left for the next server, and kept.
#[test]
fn a_server_that_drips_is_left_for_the_next() {
    for slow in [Behaviour::Drip, Behaviour::Truncate(1)] {
        let folder = tempfile::tempdir().unwrap();
        let (slow, good) = (one_file(&[slow]), one_file(&[Behaviour::Proper]));
        let mut download = download(&[&slow], &folder);
        let began = Instant::now();
        let error = download.run(&mut Silent).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        assert!(error.to_string().contains("too slow") && error.to_string().contains("are kept"), "{error}");
        let kept = std::fs::read(part_path(&download.target)).unwrap().len();
        assert!(kept > 0);
        download.urls.push(format!("{}/file", good.address));
        download.run(&mut Silent).unwrap();
        is_whole(&download.target);
        let asked = ranges(&good)[0].clone().unwrap();
        assert!(asked.starts_with("bytes=") && asked != "bytes=0-", "it goes on where the slow one stopped: {asked}");
    }
}

/// What another put in the place of the file that is collected is not written to.
#[cfg(unix)]
#[test]
fn a_planted_link_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let server = one_file(&[Behaviour::Proper]);
    let download = download(&[&server], &folder);
    let part = part_path(&download.target);
    std::fs::create_dir_all(part.parent().unwrap()).unwrap();
    let precious = folder.path().join("precious");
    std::fs::write(&precious, b"precious").unwrap();
    let plant: [&dyn Fn(); 4] = [
        &|| std::os::unix::fs::symlink(&precious, &part).unwrap(),
        &|| std::os::unix::fs::symlink(folder.path().join("nowhere"), &part).unwrap(),
        &|| std::fs::hard_link(&precious, &part).unwrap(),
        &|| assert!(std::process::Command::new("mkfifo").arg(&part).status().unwrap().success()),
    ];
    for plant in plant {
        plant();
        let error = download.run(&mut Silent).unwrap_err();
        assert_eq!(error.exit_code(), 3, "{error}");
        assert!(error.to_string().contains("file.part") && error.to_string().contains("remove it"), "{error}");
        assert_eq!(std::fs::read(&precious).unwrap(), b"precious");
        assert!(!folder.path().join("nowhere").exists());
        std::fs::remove_file(&part).unwrap();
    }
    download.run(&mut Silent).unwrap();
    is_whole(&download.target);
}

fn leak<T>(value: Vec<T>) -> &'static [T] {
    Box::leak(value.into_boxed_slice())
}

fn digest(bytes: &[u8]) -> Digest {
    Digest { sha256: Box::leak(sha256(bytes).into_boxed_str()), md5: None }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// MNIST with black images: a set of the published layout and counts whose hashes are known here.
fn black_mnist() -> (&'static Published, Vec<(String, Vec<u8>)>) {
    let set = published("mnist").unwrap();
    let idx = |sizes: &[u32]| {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.resize(bytes.len() + sizes.iter().product::<u32>() as usize, 0);
        bytes
    };
    let contents = [idx(&[60_000, 28, 28]), idx(&[60_000]), idx(&[10_000, 28, 28]), idx(&[10_000])];
    let mut served = Vec::new();
    let files = set.files.iter().zip(contents).map(|(file, content)| {
        let packed = gzip(&content);
        let published = PublishedFile {
            size: packed.len() as u64,
            digest: digest(&packed),
            content: Some(digest(&content)),
            ..*file
        };
        served.push((format!("/mnist/{}", file.name), packed));
        published
    });
    let files = leak(files.collect());
    (Box::leak(Box::new(Published { files, ..*set })), served)
}

#[test]
fn a_set_is_fetched_verified_and_not_fetched_again() {
    let folder = tempfile::tempdir().unwrap();
    let (set, served) = black_mnist();
    let server = serve(served.clone(), &[Behaviour::Proper]);
    let place = fetch(set, folder.path(), Some(&server.address), &mut Silent).unwrap();
    assert_eq!(place, folder.path().join("mnist"));
    let folders = DataFolders(vec![folder.path().to_owned()]);
    let report = verify(set, &folders).unwrap();
    assert!(report.ok() && report.files.iter().all(|file| file.state == FileState::Published), "{report:?}");

    // The first of two addresses on the mirror (its root) has no such file; the second has.
    let before = server.requests.lock().unwrap().len();
    assert_eq!(before, 8);
    fetch(set, folder.path(), Some(&server.address), &mut Silent).unwrap();
    assert_eq!(server.requests.lock().unwrap().len(), before, "what is there is not asked for");

    // Compressed anew, as Debian does: another file with the published content.
    let images = place.join(set.files[0].name);
    let mut plain = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(&std::fs::read(&images).unwrap()[..]), &mut plain).unwrap();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&plain).unwrap();
    std::fs::write(&images, encoder.finish().unwrap()).unwrap();
    assert_eq!(verify(set, &folders).unwrap().files[0].state, FileState::SameContent);

    // Well formed, but another file: verify says so, and fetch does not silently leave or replace it.
    plain[20] = 1;
    std::fs::write(&images, gzip(&plain)).unwrap();
    let report = verify(set, &folders).unwrap();
    assert_eq!((report.files[0].state, report.defect.is_none(), report.ok()), (FileState::Differs, true, false));
    let error = fetch(set, folder.path(), Some(&server.address), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("Delete"), "{error}");

    // Broken inside: the content's defect is reported.
    std::fs::write(&images, gzip(&plain[..plain.len() - 10])).unwrap();
    let defect = verify(set, &folders).unwrap().defect.unwrap();
    assert!(defect.contains("at byte 47040006"), "{defect}");
}

/// CIFAR-100 of even records, as an archive.
fn even_cifar100() -> (&'static Published, Vec<u8>) {
    let set = published("cifar100").unwrap();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let members = [("train.bin", 50_000), ("test.bin", 10_000)].map(|(name, count)| {
        let mut record = vec![3, 50];
        record.resize(3074, 100);
        let content = record.repeat(count);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("cifar-100-binary/{name}"), content.as_slice()).unwrap();
        (name, digest(&content))
    });
    let packed = archive.into_inner().unwrap().finish().unwrap();
    let file = PublishedFile { size: packed.len() as u64, digest: digest(&packed), ..set.files[0] };
    let set = Published { files: leak(vec![file]), members: leak(members.to_vec()), ..*set };
    (Box::leak(Box::new(set)), packed)
}

#[test]
fn an_archive_is_fetched_and_extracted() {
    let folder = tempfile::tempdir().unwrap();
    let (set, packed) = even_cifar100();
    let served = vec![(format!("/{}", set.files[0].name), packed)];
    let server = serve(served, &[Behaviour::Truncate(10_000), Behaviour::Proper]);
    let place = fetch(set, folder.path(), Some(&server.address), &mut Silent).unwrap();
    assert!(verify(set, &DataFolders(vec![folder.path().to_owned()])).unwrap().ok());
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names, [place], "neither the archive nor a part of it is left");
}
