// The tail becomes the last k - 1 rows of the old tail followed by the n inputs: a thread per
// channel. Rows are moved in order, each from behind its own place.

fn advance(x: Rows, tail: u32, inner: u32, k: u32, i: u32) {
    for (var row = 0u; row + 1u < k; row++) {
        let begin = row + control.n;
        var v: f32;
        if (begin < k - 1u) {
            v = memory[tail + begin * inner + i];
        } else {
            v = memory[row_at(x, begin - (k - 1u)) + i];
        }
        memory[tail + row * inner + i] = v;
    }
}
