//! The order in which endpoints take their turns.
//!
//! Part of `balance`. Weights become a list of turns once, when a roster is made; a pick then costs one atomic add.

/// Longest cycle, unless the pool has more endpoints than this. Sixteen endpoints of any weights fit exactly; 4 bytes a turn.
pub(super) const MAX_TURNS: usize = 4_096;

/// Turns in smooth weighted order: over one cycle an endpoint appears as often as its weight says, spread out rather
/// than in a row. Weights are divided by their greatest common divisor. Where their sum still exceeds the bound, turns
/// are apportioned by largest remainder, at least one each: a share is then off by less than one turn in the cycle,
/// save that of endpoints too light for a whole turn.
///
/// Costs (endpoints × turns) steps, at a reload: 4 million for 1,000 endpoints of mixed weights.
pub(super) fn turns(weights: &[u16]) -> Box<[u32]> {
    let shares = shares(weights);
    let total: i64 = shares.iter().sum();
    let indices = || 0_u32..;
    if shares.iter().all(|share| *share == 1) {
        return indices().zip(&shares).map(|(index, _)| index).collect();
    }

    // Everyone gains its share, the richest takes the turn and pays for all: the smooth order as nginx defines it.
    let mut purses: Vec<i64> = vec![0; shares.len()];
    let mut turns = Vec::with_capacity(usize::try_from(total).unwrap_or_default());
    for _ in 0..total {
        let mut richest: Option<(u32, &mut i64)> = None;
        for ((index, purse), share) in indices().zip(&mut purses).zip(&shares) {
            *purse = purse.saturating_add(*share);
            if richest.as_ref().is_none_or(|(_, most)| *purse > **most) {
                richest = Some((index, purse));
            }
        }
        if let Some((index, purse)) = richest {
            *purse = purse.saturating_sub(total);
            turns.push(index);
        }
    }
    turns.into_boxed_slice()
}

/// Turns of each endpoint in one cycle.
fn shares(weights: &[u16]) -> Vec<i64> {
    let weights: Vec<i64> = weights.iter().map(|weight| i64::from(*weight).max(1)).collect();
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    let mut shares: Vec<i64> = weights.iter().map(|weight| weight / divisor).collect();
    let total: i64 = shares.iter().sum();
    let bound = i64::try_from(MAX_TURNS.max(shares.len())).unwrap_or(i64::MAX);
    if total <= bound {
        return shares;
    }

    let mut remainders: Vec<(i64, usize)> = Vec::with_capacity(shares.len());
    for (index, share) in shares.iter_mut().enumerate() {
        let quota = share.saturating_mul(bound);
        *share = (quota / total).max(1);
        // Whoever was lifted to a whole turn has more than its due already.
        remainders.push((if quota < total { 0 } else { quota % total }, index));
    }
    let mut left = bound.saturating_sub(shares.iter().sum());
    remainders.sort_unstable_by(|a, b| b.cmp(a));
    for (_, index) in remainders {
        if left <= 0 {
            break;
        }
        if let Some(share) = shares.get_mut(index) {
            *share = share.saturating_add(1);
        }
        left = left.saturating_sub(1);
    }
    shares
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
