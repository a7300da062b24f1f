//! The ways to store some tensors that no other way beats.

use super::{Candidate, MOST_POINTS};

/// Candidates of one tensor that can be counted.
pub(super) const MOST_CANDIDATES: usize = 256;

/// Sums over some tensors, with rising bytes and falling loss.
pub(super) struct List {
    pub points: Vec<Candidate>,
}

/// Where the points of a list come from: the point of the list before, and the candidate added to it.
pub(super) struct Step {
    parents: Vec<u32>,
    candidates: Vec<u8>,
}

impl Step {
    /// The point of the list before, and the candidate.
    pub fn origin(&self, point: usize) -> (usize, usize) {
        (self.parents[point] as usize, usize::from(self.candidates[point]))
    }
}

impl List {
    /// No tensors.
    pub fn start() -> Self {
        Self { points: vec![Candidate { bytes: 0, loss: 0.0 }] }
    }

    /// One tensor more. Sums that `keep` refuses are left out. Also gives how many bytes worse a solution may have become because
    /// the list was thinned.
    pub fn add(&self, candidates: &[Candidate], keep: impl Fn(&Candidate) -> bool) -> (Self, Step, u64) {
        let mut next = Self { points: Vec::new() };
        let mut step = Step { parents: Vec::new(), candidates: Vec::new() };
        let sum = |at: usize, candidate: &Candidate| {
            let point = self.points.get(at)?;
            Some(Candidate { bytes: point.bytes + candidate.bytes, loss: point.loss + candidate.loss })
        };
        // each candidate's next point
        let mut fronts = vec![0; candidates.len()];
        let mut best = f64::INFINITY;
        loop {
            let heads = candidates.iter().zip(&fronts).enumerate();
            let first = heads
                .filter_map(|(n, (candidate, &at))| Some((n, sum(at, candidate)?)))
                .min_by(|(_, a), (_, b)| a.bytes.cmp(&b.bytes).then(a.loss.total_cmp(&b.loss)));
            let Some((n, point)) = first else { break };
            if point.loss < best && keep(&point) {
                best = point.loss;
                next.points.push(point);
                step.parents.push(fronts[n] as u32);
                step.candidates.push(n as u8);
            }
            fronts[n] += 1;
        }
        let wasted = next.thin(&mut step);
        (next, step, wasted)
    }

    /// Of a list too long, keeps the first point and the best of every interval of bytes; gives the intervals' width less one.
    fn thin(&mut self, step: &mut Step) -> u64 {
        let length = self.points.len();
        if length <= MOST_POINTS {
            return 0;
        }
        let first = self.points[0].bytes;
        let width = (self.points[length - 1].bytes - first) / (MOST_POINTS as u64 - 2) + 1;
        let interval = |point: &Candidate| (point.bytes - first) / width;
        let kept: Vec<usize> = (0..length)
            .filter(|&at| {
                let next = self.points.get(at + 1);
                at == 0 || next.is_none_or(|next| interval(next) != interval(&self.points[at]))
            })
            .collect();
        self.points = kept.iter().map(|&at| self.points[at]).collect();
        step.parents = kept.iter().map(|&at| step.parents[at]).collect();
        step.candidates = kept.iter().map(|&at| step.candidates[at]).collect();
        width - 1
    }
}
