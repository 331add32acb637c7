//! Pickles by hand: every family of opcodes, and what is refused.

use super::{Callees, Node, Pickle, Record, Value, load};
use crate::FormatError;
use crate::cursor::Cursor;

fn run(bytes: &[u8]) -> Result<Pickle, FormatError> {
    let bytes = bytes.to_vec();
    load(&mut Cursor::new(&bytes, "pickle", 0, bytes.len() as u64)?)
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

/// The record at the root, with the name of its callee.
fn record(pickle: &Pickle) -> (String, &Record) {
    let record = pickle.heap.record(pickle.root).expect("a record");
    (pickle.heap.global(record.callee).unwrap(), record)
}

#[test]
fn nothing_is_called() {
    let calls: [(&[u8], &str); 6] = [
        (b"cos\nsystem\n(X\x02\x00\x00\x00lstR.", "os.system"),
        (b"csubprocess\nPopen\n)R.", "subprocess.Popen"),
        (b"ctorch.nn.modules.linear\nLinear\n)\x81.", "torch.nn.modules.linear.Linear"),
        (b"cm\nC\n)}\x92.", "m.C"),
        (b"(X\x01\0\0\0aim\nC\n.", "m.C"),
        (b"(cm\nC\nK\x01o.", "m.C"),
    ];
    for (bytes, name) in calls {
        let pickle = run(bytes).unwrap();
        assert_eq!(record(&pickle).0, name);
    }
    let found = Callees::of(&run(calls[0].0).unwrap().heap).findings();
    assert_eq!((found[0].code.as_str(), found.len()), ("dangerous-pickle", 1));
    assert!(found[0].message.contains("`os.system`"));
    let found = Callees::of(&run(calls[3].0).unwrap().heap).findings();
    assert_eq!((found[0].code.as_str(), found.len()), ("not-rebuilt", 1));
}

#[test]
fn objects_are_their_fields_and_what_they_hold() {
    let pickle = run(b"cmodels.config\nIteraLiteConfig\n)\x81}X\x01\x00\x00\x00dK\x40sb.").unwrap();
    assert_eq!(pickle.heap.get(record(&pickle).1.state, "d"), Some(Value::Int(64)));
    // A subclass of dict, and one of list.
    let pickle = run(b"cm\nD\n)\x81(X\x01\0\0\0aK\x05u.").unwrap();
    assert_eq!(pickle.heap.get(pickle.root, "a"), Some(Value::Int(5)));
    let pickle = run(b"cm\nL\n)\x81(K\x01K\x02eK\x03a.").unwrap();
    assert_eq!(pickle.heap.items(pickle.root), Some(&[Value::Int(1), Value::Int(2), Value::Int(3)][..]));
    // Python 2 gives an OrderedDict a list of pairs.
    let pickle = run(b"ccollections\nOrderedDict\n]](U\x01aK\x01ea\x85R.").unwrap();
    assert_eq!(pickle.heap.get(pickle.root, "a"), Some(Value::Int(1)));
}

#[test]
fn bytes_and_texts_of_every_protocol() {
    let bytes = |pickle: &[u8]| {
        let Pickle { heap, root } = run(pickle).unwrap();
        match heap.node(root) {
            Some(&Node::Bytes { len, first }) => (len, first),
            other => panic!("{other:?}"),
        }
    };
    let abc = (3, *b"abc\0\0\0\0\0");
    assert_eq!(bytes(b"C\x03abc."), abc);
    assert_eq!(bytes(b"\x8e\x03\0\0\0\0\0\0\0abc."), abc);
    assert_eq!(bytes(b"\x96\x03\0\0\0\0\0\0\0abc."), abc);
    assert_eq!(bytes(b"c_codecs\nencode\n(X\x03\0\0\0abcX\x06\0\0\0latin1tR."), abc);
    let encoded = b"c_codecs\nencode\n(X\x02\0\0\0\xc3\xbfX\x06\0\0\0latin1tR.";
    assert_eq!(bytes(encoded), (1, [0xff, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(bytes(b"U\x01\xff."), (1, [0xff, 0, 0, 0, 0, 0, 0, 0]));
    for text in [&b"U\x01a."[..], b"T\x01\0\0\0a.", b"S'a'\np0\n0g0\n.", b"\x8c\x01a."] {
        let pickle = run(text).unwrap();
        assert_eq!(pickle.heap.str(pickle.root), Some("a"));
    }
    let surrogate = run(b"X\x05\0\0\0a\xed\xb2\x80b.").unwrap();
    assert!(surrogate.heap.str(surrogate.root).unwrap().starts_with('a'));
    assert!(matches!(run(b"(K\x01\x91.").unwrap().heap.nodes()[0], Node::List(_)));
}

#[test]
fn what_lies_outside_the_file_is_refused() {
    assert!(error(b"\x82\x01.").contains("by a code that only the program"));
    assert!(error(b"\x97.").contains("a buffer that is not in the file"));
    assert!(error(b"Px\n.").contains("not a storage"));
}

#[test]
fn calls_of_one_argument_again_and_again_cost_no_more() {
    // A list of which the last item is no pair, given to OrderedDict over and over.
    let mut pickle = b"ccollections\nOrderedDict\nq\x000](".to_vec();
    (0..20_000).for_each(|_| pickle.extend(b"K\x01K\x02\x86"));
    pickle.extend(b"K\x01e\x85q\x010");
    (0..200_000).for_each(|_| pickle.extend(b"h\x00h\x01R0"));
    pickle.extend(b"N.");
    let start = std::time::Instant::now();
    run(&pickle).unwrap();
    assert!(start.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn bad_pickles_are_refused_with_their_place() {
    assert!(error(b"\x80\x02}s.").contains("at byte 3, SetItem: the stack is empty"));
    assert!(error(b"\x80\x02\xff.").contains("no opcode 0xff"));
    assert!(error(b"\x80\x09.").contains("protocol 9"));
    assert!(error(b"h\x05.").contains("nothing is memoized as 5"));
    assert!(error(b"(K\x01\x85R.").contains("stack is empty"));
    assert!(error(b"K\x01").contains("too early") || error(b"K\x01").contains("left"));
    assert!(error(&[b'('; 2000]).contains("nesting of the pickle"));
    assert!(error(b"X\xff\xff\xff\xff").contains("4294967295 bytes are announced where 0 are left"));
}
