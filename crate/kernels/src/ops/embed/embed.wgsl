// The embedding of n tokens: a thread per eight columns.

struct Params {
    // [V, d]
    tokens: Matrix,
    // [T, d], if POSITIONS.
    positions: Matrix,
    // [n, d]
    y: u32,
    // Of the token's row.
    scale: f32,
    // [d], in `constants`; NONE: zeros.
    bias: u32,
    // If MAPPED, in `constants`: where each row is among those of all classes, [V]; and the first of this class.
    places: u32,
    first: u32,
}

// Add the embedding of the position.
override POSITIONS: bool = false;
// The rows of `tokens` are a class of all: others are somebody else's.
override MAPPED: bool = false;

@compute @workgroup_size(THREADS)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    prepare_tables(thread);
    workgroupBarrier();
    let i = id.x;
    let t = id.y;
    if (i >= params.tokens.eights || t >= control.n) {
        return;
    }
    var row = control.ids[t];
    if (MAPPED) {
        // What is before the first comes to more than there are rows.
        row = constants[params.places + row] - params.first;
        if (row >= params.tokens.rows) {
            return;
        }
    }
    let token = tokens_eight(params.tokens, 0u, row, i);
    var low = token.low * params.scale;
    var high = token.high * params.scale;
    if (POSITIONS) {
        let place = positions_eight(params.positions, 0u, control.position + t, i);
        low += place.low;
        high += place.high;
    }
    let d = params.tokens.cols;
    for (var j = 0u; j < 8u && 8u * i + j < d; j++) {
        var x = select(low[j & 3u], high[j & 3u], j >= 4u);
        if (params.bias != NONE) {
            x += constant(params.bias + 8u * i + j);
        }
        memory[params.y + t * d + 8u * i + j] = x;
    }
}
