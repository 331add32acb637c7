// The values of the sixteen NF4 codes.

const NF4 = array<f32, 16>(NF4_VALUES);

var<workgroup> nf4: array<f32, 16>;

// Fills the tables that codes are looked up in; a barrier has to follow.
fn prepare_tables(thread: u32) {
    if (thread < 16u) {
        var values = NF4;
        nf4[thread] = values[thread];
    }
}
