//! A block's calibration in the work directory, and back.

use serde::{Deserialize, Serialize};

use super::{Calibrated, GroupReport};
use crate::rescaling::TensorScales;
use crate::work::{Finished, Step, Work, WorkError};

const IMPORTANCE: &str = "importance ";
const ROWS: &str = "rows ";
const COLUMNS: &str = "columns ";

/// What is noted beside the vectors.
#[derive(Serialize, Deserialize)]
struct Facts {
    groups: Vec<GroupReport>,
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
        let groups = self.groups.iter().filter(|group| group.layer == layer).cloned().collect();
        work.finish(Step::CalibratedBlock(layer), &Facts { groups })
    }

    /// Keeps the head's importance.
    pub(super) fn store_head(&self, name: &str, work: &Work) -> Result<(), WorkError> {
        if let Some(values) = self.importance.get(name) {
            work.put_values(&format!("{IMPORTANCE}{name}"), values)?;
        }
        work.finish(Step::CalibratedHead, &Facts { groups: Vec::new() })
    }

    /// Takes over what an earlier run found.
    pub(super) fn restore(&mut self, finished: &Finished<'_>) -> Result<(), WorkError> {
        for piece in finished.names() {
            let values = finished.values(piece)?;
            if let Some(name) = piece.strip_prefix(IMPORTANCE) {
                self.importance.insert(name.to_owned(), values);
            } else if let Some(name) = piece.strip_prefix(ROWS) {
                let columns = self.rescaling.of(name).and_then(|scales| scales.columns.clone());
                self.rescaling.insert(name, TensorScales { rows: Some(values), columns });
            } else if let Some(name) = piece.strip_prefix(COLUMNS) {
                let rows = self.rescaling.of(name).and_then(|scales| scales.rows.clone());
                self.rescaling.insert(name, TensorScales { rows, columns: Some(values) });
            }
        }
        self.groups.extend(finished.facts::<Facts>()?.groups);
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
        let told = |c: &Calibrated| serde_json::to_string(&c.groups).unwrap();
        assert_eq!(told(&restored), told(&calibrated));
    }
}
