// import: activation, affine

// Many tokens: Y = X W^T in tiles of 64 tokens by 64 rows, W decoded eight columns at a time.

struct Params {
    // [rows, cols], or a bank of them; [cols, rows] if TRANSPOSED.
    w: Matrix,
    affine: Affine,
    // [n, cols]
    x: Rows,
    // [n, rows]
    y: Rows,
    // If ROUTED: how many slots each expert has, [E]; and which, [E, room].
    counts: u32,
    lists: u32,
    room: u32,
    // If ROUTED: the first expert of the bank.
    first_expert: u32,
    // If ROUTED: slots to a row of x.
    slots: u32,
    // If MAPPED, in `constants`: which row of Y each row makes, [rows]; and how many of Y are wanted.
    rows_of: u32,
    wanted: u32,
}

// Add to y what is there.
override ADD: bool = false;
// The workgroup's z counts experts; each takes the rows of its slots.
override ROUTED: bool = false;
// The rows are some of those of Y.
override MAPPED: bool = false;
// A row of the stored matrix belongs to a column of X: Y = X W.
override TRANSPOSED: bool = false;

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
    let rows = select(w.rows, w.cols, TRANSPOSED);
    let cols = select(w.cols, w.rows, TRANSPOSED);
    // Four rows by four tokens to a thread.
    let my_row = 4u * (thread & 15u);
    let my_token = 4u * (thread >> 4u);
    var sums: array<vec4<f32>, 4>;
    if (first_token < n) {
        for (var begin = 0u; begin < cols; begin += DEPTH) {
            // The first half of the threads decodes W, the second reads X: row `index` of a tile,
            // an eight of its columns.
            let part = thread & 127u;
            var index = part >> 1u;
            var within = 8u * (part & 1u);
            var eight = Eight(vec4(0.0), vec4(0.0));
            if (thread < 128u) {
                if (TRANSPOSED) {
                    // An eight of rows, column `within` of a tile.
                    index = 8u * (part & 7u);
                    within = part >> 3u;
                    if (first_row + index < rows && begin + within < cols) {
                        eight = w_eight(w, bank, begin + within, (first_row + index) / 8u);
                    }
                } else if (first_row + index < rows && begin + within < cols) {
                    eight = w_eight(w, bank, first_row + index, (begin + within) / 8u);
                }
            } else if (first_token + index < n) {
                var t = first_token + index;
                if (ROUTED) {
                    t = slot_of(expert, t) / params.slots;
                }
                let x = row_at(params.x, t);
                for (var j = 0u; j < 4u; j++) {
                    let col = begin + within + j;
                    if (col < cols) {
                        eight.low[j] = memory[x + col];
                    }
                    if (col + 4u < cols) {
                        eight.high[j] = memory[x + col + 4u];
                    }
                }
            }
            for (var j = 0u; j < 8u; j++) {
                let value = select(eight.low[j & 3u], eight.high[j & 3u], j >= 4u);
                if (thread >= 128u) {
                    x_tile[(within + j) * TILE + index] = value;
                } else if (TRANSPOSED) {
                    w_tile[within * TILE + index + j] = value;
                } else {
                    w_tile[(within + j) * TILE + index] = value;
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
        let at = row_at(params.y, slot_of(expert, token));
        for (var r = 0u; r < 4u; r++) {
            let row = first_row + my_row + r;
            if (row < rows) {
                var made = row;
                if (MAPPED) {
                    made = constants[params.rows_of + row];
                    if (made >= params.wanted) {
                        continue;
                    }
                }
                var y = activated(scaled(params.affine, made, sums[t][r]));
                if (ADD) {
                    y += memory[at + made];
                }
                memory[at + made] = y;
            }
        }
    }
}
