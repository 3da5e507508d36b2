//! The wire format: numbered fields of integers and byte strings.

use super::ProtobufError;

/// One field as it stands in the message.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) wire: Wire<'a>,
}

/// What a field holds, before it is known what it means.
#[derive(Debug)]
pub(super) enum Wire<'a> {
    Integer(u64),
    Bytes(&'a [u8]),
}

impl<'a> Wire<'a> {
    pub(super) fn bytes(&self) -> Result<&'a [u8], ProtobufError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Integer(_) => Err(ProtobufError::malformed("found an integer, expected bytes")),
        }
    }

    pub(super) fn text(&self) -> Result<&'a str, ProtobufError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| ProtobufError::malformed("a text is not UTF-8"))
    }

    pub(super) fn integer(&self) -> Result<i64, ProtobufError> {
        match self {
            // Negative numbers are written in two's complement.
            Self::Integer(value) => Ok(*value as i64),
            Self::Bytes([]) => Ok(0),
            Self::Bytes(_) => Err(ProtobufError::malformed("found bytes, expected an integer")),
        }
    }

    /// Whether it is what is written for a field without a value.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Integer(0) | Self::Bytes([]))
    }
}

/// The fields of a message in the order written. Ends after the first error.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, ProtobufError>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Field<'a>, ProtobufError> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| ProtobufError::malformed("a field has no number"))?;
    let wire = match key & 7 {
        0 => Wire::Integer(varint(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok();
            let (bytes, after) = length
                .and_then(|length| rest.split_at_checked(length))
                .ok_or_else(|| ProtobufError::malformed("it ends within a field"))?;
            *rest = after;
            Wire::Bytes(bytes)
        }
        other => return Err(ProtobufError::malformed(format!("wire type {other} is not used by Kubernetes"))),
    };
    Ok(Field { number, wire })
}

fn varint(rest: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or_else(|| ProtobufError::malformed("it ends within an integer"))?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::malformed("an integer has more than 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_length_are_read() {
        for (bytes, expected) in [
            (&[0x00][..], 0),
            (&[0x7f], 127),
            (&[0x80, 0x01], 128),
            (&[0x90, 0x1c], 3600),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], u64::MAX),
        ] {
            let mut rest = bytes;
            assert_eq!(varint(&mut rest), Ok(expected));
            assert!(rest.is_empty());
        }
        for bad in [&[][..], &[0x80], &[0xff; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]] {
            let mut rest = bad;
            assert!(varint(&mut rest).is_err());
        }
    }

    #[test]
    fn messages_that_lie_are_refused() {
        for bad in [
            &[0x0a, 0x05, b'a'][..],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x02, 0x00],
            &[0x0d, 0, 0, 0, 0],
            &[0x0b],
        ] {
            assert!(fields(bad).any(|field| field.is_err()), "{bad:?}");
            assert!(fields(bad).count() <= bad.len());
        }
    }
}
