//! Which bytes of a tensor were written.

/// Disjoint, merged ranges in ascending order.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage(Vec<(u64, u64)>);

impl Coverage {
    /// Adds `[start, end)`. False, and nothing added, where part of it was there before.
    pub(super) fn add(&mut self, start: u64, end: u64) -> bool {
        if start == end {
            return true;
        }
        let ranges = &mut self.0;
        let at = ranges.partition_point(|&(_, e)| e <= start);
        if ranges.get(at).is_some_and(|&(s, _)| s < end) {
            return false;
        }
        let joins_left = at > 0 && ranges[at - 1].1 == start;
        let joins_right = ranges.get(at).is_some_and(|&(s, _)| s == end);
        match (joins_left, joins_right) {
            (true, true) => {
                ranges[at - 1].1 = ranges[at].1;
                ranges.remove(at);
            }
            (true, false) => ranges[at - 1].1 = end,
            (false, true) => ranges[at].0 = start,
            (false, false) => ranges.insert(at, (start, end)),
        }
        true
    }

    /// Bytes written in all.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(s, e)| e - s).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::Coverage;

    #[test]
    fn merges_neighbours_and_refuses_overlap() {
        let mut c = Coverage::default();
        assert!(c.add(10, 20) && c.add(30, 40) && c.add(0, 5));
        assert!(!c.add(19, 21) && !c.add(5, 11) && !c.add(0, 100) && !c.add(12, 13) && !c.add(39, 50));
        assert!(c.add(20, 30));
        assert_eq!(c.0, [(0, 5), (10, 40)]);
        assert!(c.add(5, 10) && c.add(7, 7));
        assert_eq!(c.0, [(0, 40)]);
        assert_eq!(c.total(), 40);
    }
}
