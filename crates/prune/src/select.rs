//! The mask that prunes the least important weights.

use std::cmp::Ordering;
use std::str::FromStr;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{check_finite, count_rows};
use crate::{Mask, PruneError, Sparsity};

/// Among which weights the least important ones are sought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Every row by itself, so that all outputs lose as many inputs. Source: Sun et al., arXiv 2306.11695, section 3.
    #[default]
    Row,
    /// The whole matrix.
    Tensor,
    /// All matrices together: how many each of them loses is found first ([`crate::smallest`]), then it is its own.
    Global,
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "row" => Ok(Self::Row),
            "tensor" => Ok(Self::Tensor),
            "global" => Ok(Self::Global),
            _ => Err("unknown scope; available are row, tensor, global".into()),
        }
    }
}

/// Prunes the weights of least `importance` (`[n, columns]`); of equals, the first. Exactly as many as the sparsity says: where a
/// share falls between two counts for a row, rows take turns. A pattern makes its own scope, groups of M in a row.
///
/// # Errors
/// Lengths that do not fit; importance that is not finite; columns that are no multiple of M.
pub fn least_important(
    importance: &[f32],
    columns: usize,
    sparsity: Sparsity,
    scope: Scope,
) -> Result<Mask, PruneError> {
    count_rows("importance", importance, columns)?;
    check_finite("importance", importance)?;
    let mut kept = vec![true; importance.len()];
    match (sparsity, scope) {
        (Sparsity::Pattern { kept: n, of }, _) => {
            check_pattern(columns, of)?;
            let groups = kept.par_chunks_mut(of).zip(importance.par_chunks(of)).with_min_len(4096);
            groups.for_each(|(kept, importance)| prune(kept, importance, of - n));
        }
        (_, Scope::Tensor | Scope::Global) => {
            prune(&mut kept, importance, sparsity.pruned_of(importance.len()))
        }
        (_, Scope::Row) => {
            let rows = kept.par_chunks_mut(columns).zip(importance.par_chunks(columns)).enumerate();
            rows.for_each(|(row, (kept, importance))| {
                let count = sparsity.pruned_of((row + 1) * columns) - sparsity.pruned_of(row * columns);
                prune(kept, importance, count);
            });
        }
    }
    Ok(Mask::new(kept, columns))
}

/// An error unless rows are whole numbers of groups.
pub(crate) fn check_pattern(columns: usize, group: usize) -> Result<(), PruneError> {
    if columns.is_multiple_of(group) { Ok(()) } else { Err(PruneError::Pattern { columns, group }) }
}

/// Prunes the `count` least important of some weights.
pub(crate) fn prune(kept: &mut [bool], importance: &[f32], count: usize) {
    if count == 0 {
        return;
    }
    let mut order: Vec<u32> = (0..importance.len() as u32).collect();
    let by_importance = |a: &u32, b: &u32| -> Ordering {
        importance[*a as usize].total_cmp(&importance[*b as usize]).then(a.cmp(b))
    };
    if count < order.len() {
        order.select_nth_unstable_by(count - 1, by_importance);
    }
    order[..count].iter().for_each(|at| kept[*at as usize] = false);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix() -> impl Strategy<Value = (Vec<f32>, usize)> {
        (1usize..9, 1usize..40).prop_flat_map(|(rows, columns)| {
            (prop::collection::vec(0.0f32..4.0, rows * columns), Just(columns))
        })
    }

    proptest! {
        #[test]
        fn as_many_are_pruned_as_asked_and_none_is_worth_more_than_one_kept(
            (importance, columns) in matrix(),
            share in 0.0f64..0.99,
        ) {
            let sparsity = Sparsity::Share(share);
            for scope in [Scope::Row, Scope::Tensor] {
                let mask = least_important(&importance, columns, sparsity, scope).unwrap();
                prop_assert_eq!(mask.pruned(), sparsity.pruned_of(importance.len()));
                let part = if scope == Scope::Row { columns } else { importance.len() };
                for (kept, importance) in mask.kept().chunks(part).zip(importance.chunks(part)) {
                    let most_pruned = kept.iter().zip(importance).filter(|(k, _)| !**k).map(|(_, i)| *i).fold(0.0, f32::max);
                    let least_kept = kept.iter().zip(importance).filter(|(k, _)| **k).map(|(_, i)| *i).fold(9.0, f32::min);
                    prop_assert!(most_pruned <= least_kept);
                }
            }
        }

        #[test]
        fn patterns_are_exact(rows in 1usize..5, groups in 1usize..9, seed in any::<u64>()) {
            let columns = 4 * groups;
            let importance: Vec<f32> =
                (0..rows * columns).map(|i| (seed.wrapping_mul(i as u64 + 1) >> 40) as f32).collect();
            let mask = least_important(&importance, columns, Sparsity::Pattern { kept: 2, of: 4 }, Scope::Row).unwrap();
            for group in mask.kept().chunks(4) {
                prop_assert_eq!(group.iter().filter(|kept| **kept).count(), 2);
            }
        }
    }

    #[test]
    fn nothing_asked_nothing_pruned_and_what_does_not_fit_is_refused() {
        let mask = least_important(&[1.0; 12], 6, Sparsity::Share(0.0), Scope::Row).unwrap();
        assert_eq!(mask.pruned(), 0);
        let pattern = Sparsity::Pattern { kept: 2, of: 4 };
        let refused = |result: Result<Mask, PruneError>| result.unwrap_err().to_string();
        assert_eq!(
            refused(least_important(&[1.0; 12], 6, pattern, Scope::Row)),
            "6 columns are no multiple of the pattern's 4"
        );
        assert_eq!(
            refused(least_important(&[f32::NAN; 6], 6, Sparsity::Share(0.5), Scope::Row)),
            "importance[0] is NaN"
        );
    }
}
