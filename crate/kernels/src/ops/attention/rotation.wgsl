// import: reduce

// RMSNorm and rotation of a head (Su et al. 2021, section 3.2.2): values i and i + pairs turn by
// the angle position * inv_freq[i].

var<workgroup> turning: array<f32, THREADS>;

// The angle's cosine and sine. `params.turns` is a frequency in turns as the sum of three numbers,
// [3, pairs] in `constants`, of which the first two have so few bits that their products with a
// position are exact: whole turns are dropped before anything is rounded.
fn direction(position: u32, pair: u32) -> vec2<f32> {
    var turns = 0.0;
    for (var part = 0u; part < 3u; part++) {
        turns += fract(f32(position) * constant(params.turns + part * params.pairs + pair));
    }
    // Between -pi and pi.
    let angle = (turns - round(turns)) * 6.2831853071795865;
    return vec2(cos(angle), sin(angle)) * params.rope_scale;
}

// Value `thread` of the head at `at`, by a whole workgroup; 0 past its end. `weight` is that of
// the norm, in `constants`; NONE: no norm.
fn rotated(at: u32, weight: u32, position: u32, thread: u32) -> f32 {
    var x = 0.0;
    if (thread < params.head) {
        x = memory[at + thread];
    }
    let mean = run_sum(thread, x * x, THREADS) / f32(params.head);
    if (weight != NONE && thread < params.head) {
        x *= constant(weight + thread) / sqrt(mean + params.eps);
    }
    turning[thread] = x;
    workgroupBarrier();
    if (thread < params.pairs) {
        let way = direction(position, thread);
        x = x * way.x - turning[thread + params.pairs] * way.y;
    } else if (thread < 2u * params.pairs) {
        let way = direction(position, thread - params.pairs);
        x = x * way.x + turning[thread - params.pairs] * way.y;
    }
    workgroupBarrier();
    return x;
}
