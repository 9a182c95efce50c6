//! The head of a safetensors file, read and compared with the file's size before anything else of it is read, and its types.

use std::io::Read;

use safetensors::tensor::{Dtype, Metadata};
use tch::Kind;

/// The types that both safetensors and libtorch have.
const KINDS: [(Dtype, Kind); 10] = [
    (Dtype::F32, Kind::Float),
    (Dtype::F64, Kind::Double),
    (Dtype::F16, Kind::Half),
    (Dtype::BF16, Kind::BFloat16),
    (Dtype::I64, Kind::Int64),
    (Dtype::I32, Kind::Int),
    (Dtype::I16, Kind::Int16),
    (Dtype::I8, Kind::Int8),
    (Dtype::U8, Kind::Uint8),
    (Dtype::BOOL, Kind::Bool),
];

/// libtorch's name of a type of safetensors; nothing where it has none.
pub(crate) fn kind(dtype: Dtype) -> Option<Kind> {
    KINDS.iter().find(|(known, _)| *known == dtype).map(|(_, kind)| *kind)
}

/// Safetensors' name of a type of libtorch; nothing where it has none.
pub(crate) fn dtype(kind: Kind) -> Option<Dtype> {
    KINDS.iter().find(|(_, known)| *known == kind).map(|(dtype, _)| *dtype)
}

/// A head beyond this is damaged (the format's own limit).
const MAX_HEAD: u64 = 100_000_000;

/// What a file of `length` bytes says of its tensors, and where their bytes begin; the text says what is wrong with it.
///
/// # Errors
/// Where it cannot be read.
pub(crate) fn read(file: &mut impl Read, length: u64) -> std::io::Result<Result<(Metadata, usize), String>> {
    let mut size = Vec::new();
    Read::by_ref(file).take(8).read_to_end(&mut size)?;
    let Ok(size) = <[u8; 8]>::try_from(size.as_slice()).map(u64::from_le_bytes) else {
        return Ok(Err(format!("{length} bytes, too few for a header")));
    };
    if size > MAX_HEAD.min(length - 8) {
        return Ok(Err(format!("a header of {size} bytes in a file of {length}")));
    }
    let mut head = Vec::new();
    Read::by_ref(file).take(size).read_to_end(&mut head)?;
    let metadata: Metadata = match serde_json::from_slice(&head) {
        Ok(metadata) => metadata,
        Err(error) => return Ok(Err(format!("an unreadable header, {error}"))),
    };
    let start = 8 + size;
    let data = metadata.data_len() as u64;
    if start.checked_add(data) != Some(length) {
        return Ok(Err(format!("a header that tells of {data} bytes of tensors in a file of {length}")));
    }
    Ok(Ok((metadata, start as usize)))
}

/// The sizes of a tensor as libtorch counts; nothing where it cannot have them. Beside a size of zero any other passes
/// the format's own checks, but steps through the memory are computed of them all.
pub(crate) fn sizes(shape: &[usize]) -> Option<Vec<i64>> {
    // No element takes more than 16 bytes.
    shape.iter().try_fold(16i64, |steps, &size| steps.checked_mul(i64::try_from(size.max(1)).ok()?))?;
    Some(shape.iter().map(|&size| size as i64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_libtorch_can_count() {
        assert_eq!(sizes(&[]), Some(vec![]));
        assert_eq!(sizes(&[0, 3]), Some(vec![0, 3]));
        assert_eq!(sizes(&[1 << 40, 1 << 18]), Some(vec![1 << 40, 1 << 18]));
        for shape in [&[1 << 63, 0][..], &[0, usize::MAX], &[0, 1 << 40, 1 << 40], &[1 << 60]] {
            assert_eq!(sizes(shape), None, "{shape:?}");
        }
    }

    #[test]
    fn a_head_must_fit_the_file() {
        let head = br#"{"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}"#;
        let whole = [&(head.len() as u64).to_le_bytes()[..], head, b"abc"].concat();
        let read = |bytes: &[u8], length: u64| read(&mut &bytes[..], length).unwrap();
        let (metadata, start) = read(&whole, whole.len() as u64).unwrap();
        assert_eq!((metadata.data_len(), start), (3, whole.len() - 3));
        for (length, word) in [(whole.len() - 1, "tells of 3 bytes"), (20, "a header of"), (5, "too few")] {
            let said = read(&whole[..length], length as u64).unwrap_err();
            assert!(said.contains(word), "{said}");
        }
        assert!(read(&whole, 1 << 40).is_err(), "a file with a hole behind its tensors");
        let claims = [&u64::MAX.to_le_bytes()[..], head].concat();
        assert!(read(&claims, claims.len() as u64).unwrap_err().contains("18446744073709551615"));
    }
}
