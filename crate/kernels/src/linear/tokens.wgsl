// Many tokens: Y = X W^T in tiles of 64 tokens by 64 rows, W decoded eight columns at a time.

struct Params {
    // [rows, cols], or a bank of them.
    w: Matrix,
    // [n, cols]
    x: u32,
    // [n, rows]
    y: u32,
    // If ROUTED: how many slots each expert has, [E]; and which, [E, room].
    counts: u32,
    lists: u32,
    room: u32,
    // If ROUTED: the first expert of the bank.
    first_expert: u32,
    // If ROUTED: slots to a row of x.
    slots: u32,
}

override GELU: bool = false;
// Add to y what is there.
override ADD: bool = false;
// The workgroup's z counts experts; each takes the rows of its slots.
override ROUTED: bool = false;

const TILE = 64u;
const DEPTH = 16u;

// Column by column: [DEPTH, TILE].
var<workgroup> x_tile: array<f32, DEPTH * TILE>;
var<workgroup> w_tile: array<f32, DEPTH * TILE>;
var<workgroup> count: u32;

// The row of x, or of y, of token t.
fn slot_of(expert: u32, t: u32) -> u32 {
    if (ROUTED) {
        return u32(memory[params.lists + expert * params.room + t]);
    }
    return t;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    prepare_tables(thread);
    let bank = group.z;
    let expert = params.first_expert + bank;
    if (thread == 0u) {
        if (ROUTED) {
            count = u32(memory[params.counts + expert]);
        } else {
            count = control.n;
        }
    }
    let n = workgroupUniformLoad(&count);
    let first_token = group.y * TILE;
    let first_row = group.x * TILE;
    let w = params.w;
    // Four rows by four tokens to a thread.
    let my_row = 4u * (thread & 15u);
    let my_token = 4u * (thread >> 4u);
    var sums: array<vec4<f32>, 4>;
    if (first_token < n) {
        for (var begin = 0u; begin < w.eights; begin += DEPTH / 8u) {
            // The first half of the threads decodes W, the second reads X.
            let part = thread & 127u;
            let index = part >> 1u;
            let i = begin + (part & 1u);
            var eight = Eight(vec4(0.0), vec4(0.0));
            if (thread < 128u) {
                if (first_row + index < w.rows && i < w.eights) {
                    eight = w_eight(w, bank, first_row + index, i);
                }
            } else if (first_token + index < n) {
                var x = params.x;
                if (ROUTED) {
                    x += slot_of(expert, first_token + index) / params.slots * w.cols;
                } else {
                    x += (first_token + index) * w.cols;
                }
                for (var j = 0u; j < 4u; j++) {
                    if (8u * i + j < w.cols) {
                        eight.low[j] = memory[x + 8u * i + j];
                    }
                    if (8u * i + 4u + j < w.cols) {
                        eight.high[j] = memory[x + 8u * i + 4u + j];
                    }
                }
            }
            for (var j = 0u; j < 8u; j++) {
                let value = select(eight.low[j & 3u], eight.high[j & 3u], j >= 4u);
                let at = (8u * (part & 1u) + j) * TILE + index;
                if (thread < 128u) {
                    w_tile[at] = value;
                } else {
                    x_tile[at] = value;
                }
            }
            workgroupBarrier();
            for (var k = 0u; k < DEPTH; k++) {
                let a = k * TILE + my_row;
                let b = k * TILE + my_token;
                let weights = vec4(w_tile[a], w_tile[a + 1u], w_tile[a + 2u], w_tile[a + 3u]);
                sums[0] += weights * x_tile[b];
                sums[1] += weights * x_tile[b + 1u];
                sums[2] += weights * x_tile[b + 2u];
                sums[3] += weights * x_tile[b + 3u];
            }
            workgroupBarrier();
        }
    }
    for (var t = 0u; t < 4u; t++) {
        let token = first_token + my_token + t;
        if (token >= n) {
            break;
        }
        let y = params.y + slot_of(expert, token) * w.rows;
        for (var r = 0u; r < 4u; r++) {
            let row = first_row + my_row + r;
            if (row < w.rows) {
                var sum = sums[t][r];
                if (GELU) {
                    sum = gelu(sum);
                }
                if (ADD) {
                    sum += memory[y + row];
                }
                memory[y + row] = sum;
            }
        }
    }
}
