// Causal attention of n tokens: a workgroup per head and token. Positions are gone through in
// tiles with a running maximum and sum (Milakov and Gimelshein 2018), so any number of them fits.
// Keys and values of earlier steps come from the cache, those of this step from qkv; each
// workgroup puts its own into the cache.

struct Params {
    // [n, 3 d]: queries, keys, values.
    qkv: u32,
    // [T, d]
    keys: u32,
    // [T, d]
    values: u32,
    // [n, d]
    y: u32,
    d: u32,
    heads: u32,
}

var<workgroup> query: array<f32, THREADS>;
var<workgroup> scores: array<f32, THREADS>;
var<workgroup> places: u32;

fn key_at(position: u32, channel: u32) -> f32 {
    if (position < control.position) {
        return memory[params.keys + position * params.d + channel];
    }
    return memory[params.qkv + (position - control.position) * 3u * params.d + params.d + channel];
}

fn value_at(position: u32, channel: u32) -> f32 {
    if (position < control.position) {
        return memory[params.values + position * params.d + channel];
    }
    return memory[params.qkv + (position - control.position) * 3u * params.d + 2u * params.d + channel];
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let head = group.x;
    let t = group.y;
    let width = params.d / params.heads;
    let first = head * width;
    let scale = 1.0 / sqrt(f32(width));
    if (thread < width) {
        let channel = first + thread;
        query[thread] = memory[params.qkv + t * 3u * params.d + channel] * scale;
        let cached = (control.position + t) * params.d + channel;
        memory[params.keys + cached] = key_at(control.position + t, channel);
        memory[params.values + cached] = value_at(control.position + t, channel);
    }
    if (thread == 0u) {
        places = control.position + t + 1u;
    }
    let n = workgroupUniformLoad(&places);

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
                score += query[i] * key_at(position, first + i);
            }
        }
        scores[thread] = score;
        workgroupBarrier();
        let here = min(THREADS, n - begin);
        var tile_largest = largest;
        for (var i = 0u; i < here; i++) {
            tile_largest = max(tile_largest, scores[i]);
        }
        workgroupBarrier();
        scores[thread] = select(0.0, exp(score - tile_largest), there);
        workgroupBarrier();
        let rescale = exp(largest - tile_largest);
        total *= rescale;
        sum *= rescale;
        for (var i = 0u; i < here; i++) {
            total += scores[i];
            if (thread < width) {
                sum += scores[i] * value_at(begin + i, first + thread);
            }
        }
        largest = tile_largest;
        workgroupBarrier();
    }
    if (thread < width) {
        memory[params.y + t * params.d + first + thread] = sum / total;
    }
}
