//! Rotary positions (Su et al. 2021) as configurations describe them.

use serde_json::Value;
use statepress_kernels::program::VectorId;

use super::builder::Builder;
use crate::EngineError;

/// Where configurations of transformers 4 and 5 put what rotary positions need.
pub(super) const FIELDS: &[(&str, &[&str])] = &[
    ("rope_theta", &["rope_parameters.rope_theta"]),
    ("rope_type", &["rope_parameters.rope_type", "rope_scaling.rope_type", "rope_scaling.type"]),
    ("rope_factor", &["rope_parameters.factor", "rope_scaling.factor"]),
    ("rope_low_freq_factor", &["rope_parameters.low_freq_factor", "rope_scaling.low_freq_factor"]),
    ("rope_high_freq_factor", &["rope_parameters.high_freq_factor", "rope_scaling.high_freq_factor"]),
    (
        "rope_original_positions",
        &[
            "rope_parameters.original_max_position_embeddings",
            "rope_scaling.original_max_position_embeddings",
        ],
    ),
    ("partial_rotary_factor", &["rope_parameters.partial_rotary_factor"]),
];

/// How frequencies are stretched for longer texts.
#[derive(Clone, Debug)]
pub(crate) enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low: f64,
        high: f64,
        original: f64,
    },
    /// Each is divided by its own number, as llama.cpp's files say it.
    Factors(Vec<f64>),
}

/// The frequencies of rotary positions as the configuration says, over `default_part` of a head.
pub(super) fn inv_freq(
    b: &mut Builder,
    head: usize,
    default_part: f64,
) -> Result<Option<VectorId>, EngineError> {
    let part = match b.fields.optional("partial_rotary_factor") {
        None => default_part,
        Some(value) => value.as_f64().filter(|part| *part > 0.0 && *part <= 1.0).ok_or_else(|| {
            b.fields.refuse("partial_rotary_factor", &value, "a number above 0 and at most 1")
        })?,
    };
    let theta = b.fields.free_positive("rope_theta", 10_000.0, "the value of the first Llama")?;
    let kind = b.fields.optional("rope_type");
    let factor = |b: &mut Builder, name: &str, default: f64| {
        b.fields.free_positive(name, default, "the format's default")
    };
    let scaling = match kind.as_ref().map(|kind| kind.as_str().unwrap_or("?")) {
        None if b.fields.optional("rope_factor").is_some() => {
            return Err(b.fields.refuse(
                "rope_type",
                &Value::Null,
                "default, linear, llama3, where there is a rope_factor",
            ));
        }
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: factor(b, "rope_factor", 1.0)? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: factor(b, "rope_factor", 8.0)?,
            low: factor(b, "rope_low_freq_factor", 1.0)?,
            high: factor(b, "rope_high_freq_factor", 4.0)?,
            original: factor(b, "rope_original_positions", 8192.0)?,
        },
        Some(_) => {
            return Err(b.fields.refuse("rope_type", &kind.unwrap_or_default(), "default, linear, llama3"));
        }
    };
    // 0.58 of 100 is 58, and a little less in binary.
    let rotary = (head as f64 * part + 1e-9) as usize / 2 * 2;
    let scaling = match b.fields.said("rope_factors") {
        None => scaling,
        Some(factors) => {
            let numbers = || factors.as_array()?.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>();
            let fits =
                |numbers: &Vec<f64>| numbers.len() == rotary / 2 && matches!(scaling, RopeScaling::None);
            let allowed = || format!("{} numbers, and no other scaling", rotary / 2);
            let numbers = numbers().filter(fits);
            RopeScaling::Factors(
                numbers.ok_or_else(|| b.fields.refuse("rope_factors", &factors, &allowed()))?,
            )
        }
    };
    let frequencies = frequencies(theta, rotary, &scaling);
    if frequencies.iter().any(|frequency| !frequency.is_finite()) {
        let allowed = "a rope_theta, and factors of its scaling, that give finite frequencies";
        return Err(b.fields.refuse("rope_theta", &theta.into(), allowed));
    }
    Ok((rotary > 0).then(|| b.constant(frequencies)))
}

/// `f_i = theta^(-2i/rotary)`, stretched (Su et al. 2021, section 3.4.3; Llama 3's bands as in `transformers`).
pub(super) fn frequencies(theta: f64, rotary: usize, scaling: &RopeScaling) -> Vec<f32> {
    let stretched = |i: usize, f: f64| match *scaling {
        RopeScaling::None => f,
        RopeScaling::Linear { factor } => f / factor,
        RopeScaling::Llama3 { factor, low, high, original } => {
            let turns = original * f / std::f64::consts::TAU;
            let m = ((turns - low) / (high - low)).clamp(0.0, 1.0);
            f * (m + (1.0 - m) / factor)
        }
        RopeScaling::Factors(ref factors) => factors.get(i).map_or(f, |factor| f / factor),
    };
    (0..rotary / 2).map(|i| stretched(i, theta.powf(-2.0 * i as f64 / rotary as f64)) as f32).collect()
}
