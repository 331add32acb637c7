// Numbers `i` to `i + 3` of the `count` from `at` on, zeros behind the last.

fn four(at: u32, i: u32, count: u32) -> vec4<f32> {
    if (i + 4u <= count) {
        return vec4(memory[at + i], memory[at + i + 1u], memory[at + i + 2u], memory[at + i + 3u]);
    }
    var v = vec4(0.0);
    for (var j = 0u; i + j < count; j++) {
        v[j] = memory[at + i + j];
    }
    return v;
}

// Puts them back.
fn put_four(at: u32, i: u32, count: u32, v: vec4<f32>) {
    for (var j = 0u; j < 4u && i + j < count; j++) {
        memory[at + i + j] = v[j];
    }
}
