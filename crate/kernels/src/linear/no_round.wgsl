// In the place of codecs/int8/round.wgsl where there are no integer products.

override INTEGER: bool = false;

fn round_operand(thread: u32) {}
