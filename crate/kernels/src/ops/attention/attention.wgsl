// import: rotation

// Causal attention of n tokens: a workgroup per query head and token. Positions are gone through
// in tiles with a running maximum and sum (Milakov and Gimelshein 2018), so any number of them
// fits. Query heads share the heads of keys and values in equal runs (Ainslie et al. 2023). Keys
// and values of earlier steps come from the cache, those of this step from k and v; the first
// query head of a run puts them into the cache.

struct Params {
    // [n, heads head]
    q: Rows,
    // [n, kv_heads head] each.
    k: Rows,
    v: Rows,
    // [n, heads head]
    y: Rows,
    // [T, kv_heads head] each.
    keys: u32,
    values: u32,
    heads: u32,
    kv_heads: u32,
    // Values of a head.
    head: u32,
    // Of scores.
    scale: f32,
    // If ROTATE; see rotation.wgsl.
    turns: u32,
    pairs: u32,
    rope_scale: f32,
    // If ROTATE: weights of norms, [head], in `constants`, or NONE.
    q_norm: u32,
    k_norm: u32,
    eps: f32,
}

// Of one token: q and k are still to be normalised and rotated.
override ROTATE: bool = false;

var<workgroup> query: array<f32, THREADS>;
// If ROTATE: the key of this token.
var<workgroup> new_key: array<f32, THREADS>;
var<workgroup> scores: array<f32, THREADS>;

fn key_at(position: u32, first: u32, i: u32) -> f32 {
    if (position < control.position) {
        return memory[params.keys + position * params.kv_heads * params.head + first + i];
    }
    if (ROTATE) {
        return new_key[i];
    }
    return memory[row_at(params.k, position - control.position) + first + i];
}

fn value_at(position: u32, channel: u32) -> f32 {
    if (position < control.position) {
        return memory[params.values + position * params.kv_heads * params.head + channel];
    }
    return memory[row_at(params.v, position - control.position) + channel];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32SUBGROUP_ARGUMENT) {
    SUBGROUP_START
    let head = group.x;
    let t = group.y;
    let width = params.head;
    let shared_by = params.heads / params.kv_heads;
    // Where keys and values of this head begin in a row of them.
    let first = head / shared_by * width;
    let q = row_at(params.q, t) + head * width;
    let k = row_at(params.k, t) + first;
    let here = control.position + t;
    var key = 0.0;
    if (ROTATE) {
        query[thread] = rotated(q, params.q_norm, here, thread) * params.scale;
        key = rotated(k, params.k_norm, here, thread);
        new_key[thread] = key;
    } else if (thread < width) {
        query[thread] = memory[q + thread] * params.scale;
        key = memory[k + thread];
    }
    if (thread < width && head % shared_by == 0u) {
        let cached = here * params.kv_heads * width + first + thread;
        memory[params.keys + cached] = key;
        memory[params.values + cached] = value_at(here, first + thread);
    }
    workgroupBarrier();

    let n = here + 1u;
    var largest = -3.4e38;
    var total = 0.0;
    // Thread i holds channel i of the output.
    var sum = 0.0;
    for (var begin = 0u; begin < n; begin += THREADS) {
        let position = begin + thread;
        let there = position < n;
        var score = -3.4e38;
        if (there) {
            score = 0.0;
            for (var i = 0u; i < width; i++) {
                score += query[i] * key_at(position, first, i);
            }
        }
        scores[thread] = score;
        workgroupBarrier();
        let count = min(THREADS, n - begin);
        var tile_largest = largest;
        for (var i = 0u; i < count; i++) {
            tile_largest = max(tile_largest, scores[i]);
        }
        workgroupBarrier();
        scores[thread] = select(0.0, exp(score - tile_largest), there);
        workgroupBarrier();
        let rescale = exp(largest - tile_largest);
        total *= rescale;
        sum *= rescale;
        for (var i = 0u; i < count; i++) {
            total += scores[i];
            if (thread < width) {
                sum += scores[i] * value_at(begin + i, first + thread);
            }
        }
        largest = tile_largest;
        workgroupBarrier();
    }
    if (thread < width) {
        memory[row_at(params.y, t) + head * width + thread] = sum / total;
    }
}
