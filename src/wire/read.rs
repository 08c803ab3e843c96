//! Reading a message's body, field by field.

use super::WireError;

/// A cursor over a body. Each read takes what it returns off the front.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `body`.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(WireError::Format)?;
        self.rest = tail;
        Ok(head)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// An Int16.
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// An Int32.
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_be_bytes)
    }

    /// An Int32 that is never negative.
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A String, without its terminating zero.
    pub fn cstr(&mut self) -> Result<&'a [u8], WireError> {
        let end = memchr::memchr(0, self.rest).ok_or(WireError::String)?;
        let (text, tail) = self.rest.split_at_checked(end).ok_or(WireError::String)?;
        self.rest = tail.get(1..).unwrap_or_default();
        Ok(text)
    }

    /// Fails unless everything has been read.
    pub fn end(self) -> Result<(), WireError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(WireError::Format)
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(WireError::Format)?;
        self.rest = tail;
        Ok(*head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_in_order_and_refuses_to_run_over() {
        let mut reader = Reader::new(b"name\0\x00\x02\x00\x00\x01\x00");
        assert_eq!(reader.cstr(), Ok(&b"name"[..]));
        assert_eq!(reader.u16(), Ok(2));
        assert_eq!(reader.i32(), Ok(256));
        assert_eq!(reader.u8(), Err(WireError::Format));
        assert_eq!(reader.end(), Ok(()));
        assert_eq!(Reader::new(b"no end").cstr(), Err(WireError::String));
    }
}
