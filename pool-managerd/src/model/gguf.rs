//! The header of a GGUF file: metadata and the places of tensors, never the weights.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>

use std::collections::BTreeMap;
use std::io::{self, Read};

pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Longest key or tensor name that is believed, in bytes; the format allows 65,535.
const NAME_MAX: u64 = 65_535;
/// Tensors and metadata entries that are believed.
const COUNT_MAX: u64 = 1 << 20;
const DEFAULT_ALIGNMENT: u64 = 32;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GgufError {
    #[error("its header ends early")]
    Read(#[from] io::Error),
    #[error("version {0}, expected 2 or 3")]
    Version(u32),
    #[error("a header with {0} entries, expected at most {COUNT_MAX}")]
    Count(u64),
    #[error("a value of type {0}, expected 0 to 12")]
    Type(u32),
    #[error("a text or list of {0} bytes, which is more than the file has")]
    Length(u64),
}

/// A metadata value, as far as anybody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    /// Of a list, the largest element.
    Largest(u64),
    Text(String),
    /// A list of texts: how many.
    Texts(u64),
    Other,
}

#[derive(Debug)]
pub(super) struct Gguf {
    metadata: BTreeMap<String, Value>,
    /// Where the last tensor ends; tensors of types that are not known here do not count.
    pub(super) end: u64,
}

impl Gguf {
    /// Reads on after the magic. `size` of the file bounds what is believed.
    pub(super) fn read(file: &mut impl Read, size: u64) -> Result<Self, GgufError> {
        let mut reader = Reader { file, at: 4, size };
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(GgufError::Version(version));
        }
        let tensors = reader.count()?;
        let entries = reader.count()?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let key = reader.text(NAME_MAX)?;
            let kind = reader.u32()?;
            metadata.insert(key, reader.value(kind)?);
        }
        let mut last = 0;
        for _ in 0..tensors {
            last = last.max(reader.tensor()?);
        }
        let alignment = match metadata.get("general.alignment") {
            Some(Value::Number(it)) if *it != 0 => *it,
            _ => DEFAULT_ALIGNMENT,
        };
        let data = reader.at.next_multiple_of(alignment);
        let end = if tensors == 0 { reader.at } else { data.saturating_add(last) };
        Ok(Self { metadata, end })
    }

    /// A number, or the largest of a list of them.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Number(it) | Value::Largest(it) => Some(*it),
            Value::Text(_) | Value::Texts(_) | Value::Other => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            Value::Text(it) => Some(it),
            Value::Number(_) | Value::Largest(_) | Value::Texts(_) | Value::Other => None,
        }
    }

    /// Elements of a list of texts.
    pub(super) fn texts(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key)? {
            Value::Texts(it) => Some(*it),
            Value::Number(_) | Value::Largest(_) | Value::Text(_) | Value::Other => None,
        }
    }
}

struct Reader<'a, R> {
    file: &'a mut R,
    at: u64,
    size: u64,
}

impl<R: Read> Reader<'_, R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, GgufError> {
        self.bytes().map(u64::from_le_bytes)
    }

    fn count(&mut self) -> Result<u64, GgufError> {
        let count = self.u64()?;
        if COUNT_MAX < count { Err(GgufError::Count(count)) } else { Ok(count) }
    }

    fn text(&mut self, longest: u64) -> Result<String, GgufError> {
        let length = self.u64()?;
        if longest.min(self.size) < length {
            return Err(GgufError::Length(length));
        }
        let mut bytes = Vec::new();
        let read = self.file.take(length).read_to_end(&mut bytes)? as u64;
        self.at += read;
        if read < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn skip(&mut self, length: u64) -> Result<(), GgufError> {
        if self.size < length {
            return Err(GgufError::Length(length));
        }
        let skipped = io::copy(&mut self.file.take(length), &mut io::sink())?;
        self.at += skipped;
        if skipped < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(())
    }

    fn value(&mut self, kind: u32) -> Result<Value, GgufError> {
        match kind {
            8 => self.text(self.size).map(Value::Text),
            9 => self.list(),
            _ => Ok(self.scalar(kind)?.map_or(Value::Other, Value::Number)),
        }
    }

    /// `None`: a number below zero, or with a fraction.
    fn scalar(&mut self, kind: u32) -> Result<Option<u64>, GgufError> {
        Ok(match kind {
            0 | 7 => Some(self.bytes::<1>()?[0].into()),
            1 => u64::try_from(i8::from_le_bytes(self.bytes()?)).ok(),
            2 => Some(u16::from_le_bytes(self.bytes()?).into()),
            3 => u64::try_from(i16::from_le_bytes(self.bytes()?)).ok(),
            4 => Some(self.u32()?.into()),
            5 => u64::try_from(i32::from_le_bytes(self.bytes()?)).ok(),
            6 => {
                self.skip(4)?;
                None
            }
            10 => Some(self.u64()?),
            11 => u64::try_from(i64::from_le_bytes(self.bytes()?)).ok(),
            12 => {
                self.skip(8)?;
                None
            }
            other => return Err(GgufError::Type(other)),
        })
    }

    fn list(&mut self) -> Result<Value, GgufError> {
        let kind = self.u32()?;
        let length = self.u64()?;
        if self.size < length {
            return Err(GgufError::Length(length));
        }
        match kind {
            8 => {
                for _ in 0..length {
                    let text = self.u64()?;
                    self.skip(text)?;
                }
                Ok(Value::Texts(length))
            }
            // Lists of lists are allowed and seen nowhere.
            9 => Err(GgufError::Type(kind)),
            _ => {
                let mut largest = None;
                for _ in 0..length {
                    largest = largest.max(self.scalar(kind)?);
                }
                Ok(largest.map_or(Value::Other, Value::Largest))
            }
        }
    }

    /// Where a tensor ends, counted from the start of the data; 0 for types that are not known here.
    fn tensor(&mut self) -> Result<u64, GgufError> {
        self.text(NAME_MAX)?;
        let dimensions = self.u32()?;
        let mut elements: u64 = 1;
        for _ in 0..dimensions.min(8) {
            elements = elements.saturating_mul(self.u64()?);
        }
        let kind = self.u32()?;
        let offset = self.u64()?;
        let bytes = block(kind).map_or(0, |(elements_each, bytes_each)| {
            elements.div_ceil(elements_each).saturating_mul(bytes_each)
        });
        Ok(if bytes == 0 { 0 } else { offset.saturating_add(bytes) })
    }
}

/// Elements and bytes of one block of a tensor type, as in ggml's `type_traits`.
fn block(kind: u32) -> Option<(u64, u64)> {
    Some(match kind {
        0 => (1, 4),
        1 | 30 => (1, 2),
        2 => (32, 18),
        3 => (32, 20),
        6 => (32, 22),
        7 => (32, 24),
        8 => (32, 34),
        10 => (256, 84),
        11 => (256, 110),
        12 => (256, 144),
        13 => (256, 176),
        14 => (256, 210),
        _ => return None,
    })
}
