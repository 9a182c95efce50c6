//! An archive of torch.export. The first byte says whether the rest is the archive, or the program's JSON inside of one.
#![no_main]

use std::io::{Cursor, Write};
use std::path::Path;

use backpack_run::import::{Head, network};
use libfuzzer_sys::fuzz_target;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let archive = if *first == 0 { rest.to_vec() } else { around(rest) };
    let _ = network(Cursor::new(archive), Path::new("fuzz"), &Head::default());
});

/// An archive with this program, and one tensor of two numbers, w.
fn around(program: &[u8]) -> Vec<u8> {
    let size = |size: i64| format!("{{\"as_int\":{size}}}");
    let meta = format!(
        "{{\"dtype\":7,\"sizes\":[{}],\"strides\":[{}],\"storage_offset\":{}}}",
        size(2),
        size(1),
        size(0)
    );
    let config = format!("{{\"config\":{{\"w\":{{\"path_name\":\"weight_0\",\"use_pickle\":false,\"tensor_meta\":{meta}}}}}}}");
    let members: [(&str, &[u8]); 5] = [
        ("n/archive_format", b"pt2"),
        ("n/archive_version", b"0"),
        ("n/models/m.json", program),
        ("n/data/weights/m_weights_config.json", config.as_bytes()),
        ("n/data/weights/weight_0", &[0; 8]),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in members {
        if zip.start_file(name, SimpleFileOptions::default()).is_err() || zip.write_all(content).is_err() {
            return Vec::new();
        }
    }
    zip.finish().map(Cursor::into_inner).unwrap_or_default()
}
