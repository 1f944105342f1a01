//! The two protocol buffer messages of a tensor bundle's index (`tensorflow/core/protobuf/tensor_bundle.proto`), as far as
//! a reader of whole tensors needs them.

use super::wire::Wire;

/// The most axes that TensorFlow gives a tensor.
const MOST_AXES: usize = 254;

/// `BundleHeaderProto`: the value of the empty key.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// Data files.
    pub(super) shards: u64,
    /// 0: the lowest byte first.
    pub(super) endianness: u64,
}

/// `BundleEntryProto`: one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entry {
    /// Number of the type, of `DataType`.
    pub(super) data_type: u64,
    pub(super) shape: Vec<i64>,
    /// Number of the data file.
    pub(super) shard: u64,
    /// Its bytes in the data file.
    pub(super) offset: u64,
    pub(super) size: u64,
    /// Masked CRC-32C of these bytes.
    pub(super) crc: u32,
    /// The value stands in pieces elsewhere (a partitioned variable).
    pub(super) sliced: bool,
}

impl Header {
    /// `None` if it is no such message.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut header = Self { shards: 0, endianness: 0 };
        each(message, |field, value| {
            match (field, value) {
                (1, Value::Number(shards)) => header.shards = shards,
                (2, Value::Number(endianness)) => header.endianness = endianness,
                _ => {}
            }
            Some(())
        })?;
        Some(header)
    }
}

impl Entry {
    /// `None` if it is no such message, or the shape is not known.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut entry = Self::default();
        each(message, |field, value| {
            match (field, value) {
                (1, Value::Number(number)) => entry.data_type = number,
                (2, Value::Bytes(bytes)) => entry.shape = shape(bytes)?,
                (3, Value::Number(shard)) => entry.shard = shard,
                (4, Value::Number(offset)) => entry.offset = offset,
                (5, Value::Number(size)) => entry.size = size,
                (6, Value::Fixed32(crc)) => entry.crc = crc,
                (7, Value::Bytes(_)) => entry.sliced = true,
                _ => {}
            }
            Some(())
        })?;
        Some(entry)
    }

    /// Number of its values.
    pub(super) fn values(&self) -> Option<u64> {
        self.shape.iter().try_fold(1u64, |product, &size| product.checked_mul(size.try_into().ok()?))
    }
}

/// `TensorShapeProto`.
fn shape(message: &[u8]) -> Option<Vec<i64>> {
    let mut sizes = Vec::new();
    each(message, |field, value| {
        match (field, value) {
            (2, Value::Bytes(axis)) if sizes.len() < MOST_AXES => sizes.push(axis_size(axis)?),
            // A shape that is not known has no values.
            (2, _) | (3, Value::Number(1..)) => return None,
            _ => {}
        }
        Some(())
    })?;
    Some(sizes)
}

/// `TensorShapeProto.Dim`.
fn axis_size(message: &[u8]) -> Option<i64> {
    let mut size = 0;
    each(message, |field, value| {
        if let (1, Value::Number(number)) = (field, value) {
            size = i64::try_from(number).ok()?;
        }
        Some(())
    })?;
    Some(size)
}

/// What a field holds.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64,
}

/// Calls `field` with the number and value of each field, until it or the message fails.
fn each<'a>(message: &'a [u8], mut field: impl FnMut(u64, Value<'a>) -> Option<()>) -> Option<()> {
    let mut rest = Wire(message);
    while !rest.is_empty() {
        let tag = rest.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(rest.varint()?),
            1 => rest.fixed64().map(|_| Value::Fixed64)?,
            2 => Value::Bytes(rest.prefixed()?),
            5 => Value::Fixed32(rest.fixed32()?),
            _ => return None,
        };
        field(tag >> 3, value)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_field_by_field_and_unknown_fields_are_passed_over() {
        let message = [
            &[0x08, 1][..],                                          // float
            &[0x12, 8, 0x12, 2, 0x08, 3, 0x12, 2, 0x08, 4],          // [3, 4]
            &[0x20, 0x80, 0x01, 0x28, 48],                           // at 128, 48 bytes
            &[0x35, 1, 2, 3, 4],                                     // checksum
            &[0x40, 9, 0x49, 0, 0, 0, 0, 0, 0, 0, 0, 0x52, 1, b'x'], // fields 8, 9, 10
        ]
        .concat();
        let expected =
            Entry { data_type: 1, shape: vec![3, 4], offset: 128, size: 48, crc: 0x0403_0201, ..Entry::default() };
        assert_eq!(Entry::parse(&message), Some(expected.clone()));
        assert_eq!(expected.values(), Some(12));
        assert_eq!(Entry::parse(&message[..message.len() - 1]), None);
    }

    #[test]
    fn sizes_that_make_no_sense_are_no_shape() {
        let huge = Entry { shape: vec![i64::MAX, 3], ..Entry::default() };
        assert_eq!(huge.values(), None);
        let unknown_rank = [0x12, 2, 0x18, 1];
        assert_eq!(Entry::parse(&unknown_rank), None);
        let axis = [0x12, 2, 0x08, 1];
        let many = [&[0x12, 0x80, 0x20][..], &axis.repeat(1024)].concat();
        assert_eq!(Entry::parse(&many), None);
    }
}
