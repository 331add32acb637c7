//! Choosing experts: the `k` largest router logits, softmax over those alone (Shazeer et al.
//! 2017, equation 5).

/// One chosen expert of one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Route {
    /// Index of the expert.
    pub expert: usize,
    /// Its share; the shares of a token sum to 1.
    pub weight: f32,
}

/// The routes of every token, `k` each, largest first; ties go to the lowest index.
///
/// `logits` is `[n, experts]` and `1 <= k <= experts`. There are a handful of experts, so this
/// is as plain as it looks.
pub fn top_k(logits: &[f32], experts: usize, k: usize) -> Vec<Route> {
    let mut routes = Vec::with_capacity(logits.len() / experts.max(1) * k);
    for row in logits.chunks_exact(experts.max(1)) {
        let first = routes.len();
        for _ in 0..k {
            let taken = |expert: usize| routes[first..].iter().any(|route: &Route| route.expert == expert);
            let left = (0..experts).filter(|&expert| !taken(expert));
            if let Some(expert) =
                left.reduce(|best, expert| if row[expert] > row[best] { expert } else { best })
            {
                routes.push(Route { expert, weight: row[expert] });
            }
        }
        let chosen = &mut routes[first..];
        let largest = chosen.first().map_or(0.0, |route| route.weight);
        chosen.iter_mut().for_each(|route| route.weight = (route.weight - largest).exp());
        let sum: f32 = chosen.iter().map(|route| route.weight).sum();
        chosen.iter_mut().for_each(|route| route.weight /= sum);
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_come_first_and_ties_go_to_the_lowest_index() {
        let routes = top_k(&[0.0, 2.0, 2.0, -1.0, 5.0, 1.0, 0.0, 0.0], 4, 2);
        let experts: Vec<_> = routes.iter().map(|route| route.expert).collect();
        assert_eq!(experts, [1, 2, 0, 1]);
        assert_eq!(routes[0].weight, 0.5);
        assert!((routes[2].weight + routes[3].weight - 1.0).abs() < 1e-6);
        assert!((routes[2].weight / routes[3].weight - 4f32.exp()).abs() < 1e-3);
    }
}
