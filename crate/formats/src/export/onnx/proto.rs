//! As much of Protocol Buffers as ONNX takes: fields with varints, 32 bits, and bytes that say how many they are.
//! Source: `protobuf.dev/programming-guides/encoding`.

/// A message being written.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Message(Vec<u8>);

/// Kinds of fields.
const VARINT: u64 = 0;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

impl Message {
    /// A whole number. Negative ones take ten bytes.
    pub fn int(mut self, field: u64, value: i64) -> Self {
        self.tag(field, VARINT);
        varint(value as u64, &mut self.0);
        self
    }

    /// A number.
    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.tag(field, FIXED_32);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// A text.
    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Bytes.
    pub fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        let mut begun = self.begin(field, bytes.len() as u64);
        begun.0.extend(bytes);
        begun
    }

    /// A message in it.
    pub fn message(self, field: u64, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// The same for each of several.
    pub fn each<T>(self, field: u64, of: &[T], message: impl Fn(&T) -> Message) -> Self {
        of.iter().fold(self, |all, it| all.message(field, &message(it)))
    }

    /// Begins a field of so many bytes, which somebody writes behind it.
    pub fn begin(mut self, field: u64, bytes: u64) -> Self {
        self.tag(field, BYTES);
        varint(bytes, &mut self.0);
        self
    }

    /// Bytes so far.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// What is written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn tag(&mut self, field: u64, kind: u64) {
        varint(field << 3 | kind, &mut self.0);
    }
}

/// Seven bits a byte, the lowest first.
fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_documentation() {
        // `encoding`: field 1 is 150; field 2 is "testing"; field 3 is the first message.
        let inner = Message::default().int(1, 150);
        assert_eq!(inner.clone().finish(), [0x08, 0x96, 0x01]);
        let text = Message::default().text(2, "testing").finish();
        assert_eq!(text, [0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67]);
        assert_eq!(Message::default().message(3, &inner).finish(), [0x1a, 0x03, 0x08, 0x96, 0x01]);
        assert_eq!(Message::default().int(1, -2).len(), 11);
        assert_eq!(Message::default().float(2, 1.0).finish(), [0x15, 0, 0, 0x80, 0x3f]);
    }
}
