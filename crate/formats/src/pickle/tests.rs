//! Pickles by hand: every family of opcodes, and what is refused.

use super::{Node, Pickle, Value, load};
use crate::FormatError;
use crate::cursor::Cursor;

fn run(bytes: &[u8]) -> Result<Pickle, FormatError> {
    let bytes = bytes.to_vec();
    load(Cursor::new(&bytes, "pickle", 0, bytes.len() as u64)?)
}

fn error(bytes: &[u8]) -> String {
    run(bytes).unwrap_err().to_string()
}

#[test]
fn containers_and_numbers_of_every_protocol() {
    // pickle.dumps({"a": [1, 2.5, None], "b": (True,)}, protocol=2)
    let pickle =
        run(b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00NeX\x01\x00\x00\x00bq\x03\x88\x85q\x04u.")
            .unwrap();
    let list = pickle.heap.get(pickle.root, "a").unwrap();
    let expected = [Value::Int(1), Value::Float(2.5), Value::None];
    assert!(matches!(pickle.heap.node(list), Some(Node::List(items)) if items[..] == expected));
    let tuple = pickle.heap.get(pickle.root, "b").unwrap();
    assert_eq!(pickle.heap.tuple(tuple), Some(&[Value::Bool(true)][..]));
    // The same in protocol 0 spelling, without memo.
    let pickle = run(b"(Va\n(I1\nF2.5\nNlVb\n(I01\ntd.").unwrap();
    let list = pickle.heap.get(pickle.root, "a").unwrap();
    assert!(matches!(pickle.heap.node(list), Some(Node::List(items)) if items[..] == expected));
    // FRAME, MEMOIZE, SHORT_BINUNICODE, EMPTY_SET, ADDITEMS, LONG4, BINBYTES.
    let pickle = run(
        b"\x80\x04\x95\x14\0\0\0\0\0\0\0\x8c\x01k\x94\x8f\x94(\x8b\x02\0\0\0\0\x01B\x02\0\0\0xyK\x03\x90.",
    );
    assert!(matches!(pickle.unwrap().heap.nodes[1], Node::List(ref set) if set[0] == Value::Int(256)));
}

#[test]
fn nothing_is_called() {
    let error = run(b"cos\nsystem\n(X\x02\x00\x00\x00lstR.").unwrap_err();
    assert_eq!(error, FormatError::RefusedGlobal { name: "os.system".into() });
    assert_eq!(run(b"csubprocess\nPopen\n)R.").unwrap_err().code(), "refused-global");
    assert_eq!(run(b"ctorch.nn.modules.linear\nLinear\n)\x81.").unwrap_err().code(), "whole-module");
}

#[test]
fn instances_of_unknown_classes_are_their_fields() {
    let pickle = run(b"cmodels.config\nIteraLiteConfig\n)\x81}X\x01\x00\x00\x00dK\x40sb.").unwrap();
    let Some(Node::Record { state, .. }) = pickle.heap.node(pickle.root) else { panic!("a record") };
    assert_eq!(pickle.heap.get(*state, "d"), Some(Value::Int(64)));
}

#[test]
fn bad_pickles_are_refused_with_their_place() {
    assert!(error(b"\x80\x02}s.").contains("at byte 3, SetItem: the stack is empty"));
    assert!(error(b"\x80\x02\xff.").contains("opcode 0xff"));
    assert!(error(b"\x80\x09.").contains("protocol 9"));
    assert!(error(b"h\x05.").contains("nothing is memoized as 5"));
    assert!(error(b"(K\x01\x85R.").contains("stack is empty"));
    assert!(error(b"K\x01").contains("too early") || error(b"K\x01").contains("left"));
    assert!(error(&[b'('; 1000]).contains("nesting of the pickle"));
    assert!(error(b"X\xff\xff\xff\xff").contains("4294967295 bytes are announced where 0 are left"));
}
