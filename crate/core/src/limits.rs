//! Caps on what a hostile file may make us do. Each is far above every real checkpoint.

/// Bytes of a header, directory or pickle that is read whole. The pickle of a 70B
/// checkpoint is below 1 MB; safetensors caps its header at 100 MB.
pub const HEADER_BYTES: u64 = 100 << 20;

/// Tensors in one file.
pub const TENSORS: usize = 1 << 20;

/// Dimensions of a tensor.
pub const DIMENSIONS: usize = 8;

/// Nesting of values in a pickle that become JSON, or are searched for weights.
pub const PICKLE_DEPTH: usize = 64;

/// Open marks of a pickle. Python's own pickler gives up at about a third of this depth.
pub const PICKLE_MARKS: usize = 1 << 10;

/// Values that a pickle may create; also bounds its memo and its stack.
pub const PICKLE_VALUES: usize = 1 << 21;

/// Codes that one byte of an entropy-coded stream may stand for: as many as DEFLATE's bytes at the most. So what a file has us
/// allocate stays in proportion to its size; codes that need less are stored packed.
pub const CODES_PER_BYTE: u64 = 1 << 10;

/// Bytes read from a source at a time while a tensor is converted.
pub const CHUNK_BYTES: usize = 1 << 16;

/// Numbers of a tensor that are in memory at a time where it is gone through a band of rows after the other: 64 MiB as float32. Few
/// tensors but tables have more.
pub const BAND_NUMBERS: usize = 1 << 24;
