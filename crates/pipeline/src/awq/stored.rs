//! A block's calibration in the work directory, and back.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use slmc_quant::GramBlocks;

use super::{Calibrated, GroupReport};
use crate::rescaling::TensorScales;
use crate::work::{Finished, Step, Work, WorkError};

const IMPORTANCE: &str = "importance ";
const PRODUCTS: &str = "products ";
const ROWS: &str = "rows ";
const COLUMNS: &str = "columns ";

/// What is noted beside the vectors.
#[derive(Serialize, Deserialize)]
struct Facts {
    groups: Vec<GroupReport>,
    /// Columns of a run of products.
    run_len: Option<usize>,
}

impl Calibrated {
    /// Keeps what was found for a block.
    pub(super) fn store_block(&self, layer: usize, work: &Work) -> Result<(), WorkError> {
        let prefix = format!("blk.{layer}.");
        for (name, values) in self.importance.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            work.put_values(&format!("{IMPORTANCE}{name}"), values)?;
        }
        for (name, scales) in self.rescaling.iter().filter(|(name, _)| name.starts_with(&prefix)) {
            for (kind, values) in [(ROWS, &scales.rows), (COLUMNS, &scales.columns)] {
                if let Some(values) = values {
                    work.put_values(&format!("{kind}{name}"), values)?;
                }
            }
        }
        // consumers of one input share its products, which are kept once: under the first name
        let mut products: Vec<_> = self.grams.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
        products.sort_by_key(|(name, _)| name.as_str());
        let run_len = products.first().map(|(_, gram)| gram.run_len());
        while let Some((first, gram)) = products.first().copied() {
            let (same, others): (Vec<_>, Vec<_>) =
                products.into_iter().partition(|(_, other)| Arc::ptr_eq(gram, other));
            let names: Vec<_> = same.iter().map(|(name, _)| name.as_str()).collect();
            debug_assert_eq!(names[0], first);
            work.put_values(&format!("{PRODUCTS}{}", names.join(" ")), gram.values())?;
            products = others;
        }
        let groups = self.groups.iter().filter(|group| group.layer == layer).cloned().collect();
        work.finish(Step::CalibratedBlock(layer), &Facts { groups, run_len })
    }

    /// Keeps the head's importance.
    pub(super) fn store_head(&self, name: &str, work: &Work) -> Result<(), WorkError> {
        if let Some(values) = self.importance.get(name) {
            work.put_values(&format!("{IMPORTANCE}{name}"), values)?;
        }
        work.finish(Step::CalibratedHead, &Facts { groups: Vec::new(), run_len: None })
    }

    /// Takes over what an earlier run found.
    pub(super) fn restore(&mut self, finished: &Finished<'_>) -> Result<(), WorkError> {
        let facts = finished.facts::<Facts>()?;
        for piece in finished.names() {
            let values = finished.values(piece)?;
            if let Some(names) = piece.strip_prefix(PRODUCTS) {
                let gram = facts.run_len.and_then(|len| GramBlocks::new(len, values));
                let gram = Arc::new(gram.ok_or_else(|| finished.unknown(piece))?);
                for name in names.split(' ') {
                    self.grams.insert(name.to_owned(), Arc::clone(&gram));
                }
            } else if let Some(name) = piece.strip_prefix(IMPORTANCE) {
                self.importance.insert(name.to_owned(), values);
            } else if let Some(name) = piece.strip_prefix(ROWS) {
                let columns = self.rescaling.of(name).and_then(|scales| scales.columns.clone());
                self.rescaling.insert(name, TensorScales { rows: Some(values), columns });
            } else if let Some(name) = piece.strip_prefix(COLUMNS) {
                let rows = self.rescaling.of(name).and_then(|scales| scales.rows.clone());
                self.rescaling.insert(name, TensorScales { rows, columns: Some(values) });
            }
        }
        self.groups.extend(facts.groups);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use slmc_quant::awq::{Candidate, Family, GroupKind};

    use super::*;
    use crate::awq::SearchedGroup;
    use crate::work::Fingerprint;

    #[test]
    fn what_is_stored_comes_back_bit_for_bit() {
        let mut calibrated = Calibrated::default();
        for layer in 0..2 {
            let name = |tensor: &str| format!("blk.{layer}.{tensor}.weight");
            let scale = 1.0 / (3.0 + layer as f32);
            calibrated.rescaling.divide_rows(&name("attn_v"), &[scale, 7.0]);
            calibrated.rescaling.multiply_columns(&name("attn_v"), &[scale, scale * scale]);
            calibrated.rescaling.divide_rows(&name("attn_norm"), &[scale]);
            calibrated.importance.insert(name("attn_q"), vec![scale, 0.0, f32::MIN_POSITIVE]);
            let gram =
                Arc::new(GramBlocks::new(2, vec![scale, 0.1, 0.1, 1.0 / 3.0, 1.0, 0.0, 0.0, scale]).unwrap());
            calibrated.grams.insert(name("attn_q"), Arc::clone(&gram));
            calibrated.grams.insert(name("attn_k"), gram);
            let found = SearchedGroup {
                candidate: Candidate { family: Family::Activation, ratio: 0.35 },
                scales: Vec::new(),
                loss: 0.1 + 0.2,
                unscaled_loss: 1.0 / 3.0,
            };
            calibrated.groups.push(GroupReport { layer, group: GroupKind::AttentionInput, found });
        }
        calibrated.importance.insert("output.weight".into(), vec![0.1]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("work");
        let work = Work::open(&path, false, Fingerprint::default(), 1).unwrap();
        calibrated.store_block(0, &work).unwrap();
        calibrated.store_block(1, &work).unwrap();
        calibrated.store_head("output.weight", &work).unwrap();
        drop(work);

        let work = Work::open(&path, true, Fingerprint::default(), 1).unwrap();
        let mut restored = Calibrated::default();
        for step in [Step::CalibratedBlock(0), Step::CalibratedBlock(1), Step::CalibratedHead] {
            restored.restore(&work.finished(step).unwrap()).unwrap();
        }
        assert_eq!(restored.rescaling, calibrated.rescaling);
        assert_eq!(restored.importance, calibrated.importance);
        assert_eq!(restored.grams, calibrated.grams);
        let told = |c: &Calibrated| serde_json::to_string(&c.groups).unwrap();
        assert_eq!(told(&restored), told(&calibrated));
    }
}
