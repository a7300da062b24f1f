use super::*;
use crate::scores::Drift;

fn window(start: usize, len: usize, scored: Range<usize>) -> Window {
    Window { start, len, scored }
}

/// Rows whose nll is their index, with a base that finds half of that.
fn counted(rows: usize) -> Scores {
    let nll: Vec<f64> = (0..rows).map(|row| row as f64).collect();
    let drift = nll.iter().map(|nll| Drift {
        base_nll: nll / 2.0,
        kl: nll * nll,
        delta_p: 0.0,
        same_top: *nll < 3.0,
        in_top5: true,
    });
    let drift = Some(drift.collect());
    Scores { nll, drift }
}

#[test]
fn positions_are_divided_evenly_and_every_row_is_in_its_part() {
    // two windows of 64, second half scored: 31 positions in 8 parts
    let windows = [window(0, 64, 32..63), window(64, 64, 32..63)];
    let scores = counted(62);
    let parts = by_position(&windows, &scores);
    assert_eq!(parts.len(), 8);
    assert_eq!((parts[0].context_from, parts[7].context_to), (33, 63));
    assert!(parts.windows(2).all(|pair| pair[0].context_to + 1 == pair[1].context_from));
    for part in &parts {
        // position i has i + 1 tokens of context and is row i - 32 of each window
        let contexts = part.context_from..=part.context_to;
        let rows: Vec<f64> =
            contexts.flat_map(|context| [context - 33, context - 33 + 31]).map(|row| row as f64).collect();
        assert_eq!(part.figures.tokens, rows.len());
        let expected = Estimate::of(rows.iter().copied());
        assert!((part.figures.nll.mean - expected.mean).abs() < 1e-12);
        assert!((part.figures.nll.stderr - expected.stderr).abs() < 1e-12);
        let base = part.figures.base_nll.unwrap();
        assert!((base.mean - expected.mean / 2.0).abs() < 1e-12);
        let kl = rows.iter().map(|x| x * x).sum::<f64>() / rows.len() as f64;
        assert!((part.figures.kl_divergence.unwrap().mean - kl).abs() < 1e-9);
    }
    assert_eq!(parts.iter().map(|part| part.figures.tokens).sum::<usize>(), 62);
}

#[test]
fn windows_of_few_positions_have_fewer_parts_and_empty_ones_are_left_out() {
    let parts = by_position(&[window(0, 8, 4..7)], &counted(3));
    let contexts: Vec<_> = parts.iter().map(|part| (part.context_from, part.context_to)).collect();
    assert_eq!(contexts, [(5, 5), (6, 6), (7, 7)]);
    // strided: a first window that scores little, a later one that scores its end only
    let parts = by_position(&[window(0, 16, 0..2), window(8, 16, 14..15)], &counted(3));
    let tokens: Vec<_> = parts.iter().map(|part| (part.context_from, part.figures.tokens)).collect();
    assert_eq!(tokens, [(1, 2), (15, 1)]);
    let alone = by_position(&[window(0, 8, 4..7)], &Scores { drift: None, ..counted(3) });
    assert_eq!((alone[0].figures.base_nll, alone[0].figures.top1_agreement), (None, None));
}

#[test]
fn documents_have_the_rows_of_their_tokens() {
    // 8 tokens of 2 bytes; documents of 6 and 8 bytes with 2 bytes between, and one that has no token
    let text = TextSpans::new((1..=8).map(|token| 2 * token).collect(), vec![0..6, 8..16, 20..25]);
    // tokens 1, 2, 3 and 5, 6, 7 are scored
    let windows = [window(0, 4, 0..3), window(4, 4, 0..3)];
    let documents = by_document(&windows, &counted(6), &text);
    let found: Vec<_> = documents.iter().map(|d| (d.document, d.figures.tokens, d.bytes)).collect();
    // token 3 stands between the documents and counts with the first
    assert_eq!(found, [(0, 3, 6), (1, 3, 6)]);
    assert_eq!(documents[1].figures.nll.mean, 4.0);
    assert_eq!(documents[1].figures.top1_agreement, Some(0.0));
    let bits = documents[1].bits_per_byte.unwrap();
    assert!((bits - 12.0 / std::f64::consts::LN_2 / 6.0).abs() < 1e-12);
}
