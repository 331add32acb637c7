// What is done to a product before any activation.

// (dot x_scale + bias) row_scale y_scale
struct Affine {
    // [rows], in `constants`, or NONE.
    bias: u32,
    // [rows], in `constants`, or NONE.
    row_scale: u32,
    x_scale: f32,
    y_scale: f32,
}

fn scaled(affine: Affine, row: u32, dot: f32) -> f32 {
    var y = dot * affine.x_scale;
    if (affine.bias != NONE) {
        y += constant(affine.bias + row);
    }
    if (affine.row_scale != NONE) {
        y *= constant(affine.row_scale + row);
    }
    return y * affine.y_scale;
}
