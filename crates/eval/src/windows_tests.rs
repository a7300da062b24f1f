use super::*;

fn protocol(n_ctx: usize) -> Protocol {
    Protocol { n_ctx, stride: None, bos: None, max_windows: None }
}

#[test]
fn second_half_is_scored_and_the_last_position_predicts_nothing() {
    let tokens: Vec<u32> = (0..20).collect();
    let windows = Windows::new(&tokens, &protocol(8)).unwrap();
    assert_eq!(windows.count(), 2, "the last 4 tokens fill no window");
    assert_eq!(windows.all()[1], Window { start: 8, len: 8, scored: 4..7 });
    assert_eq!(windows.targets(0), [5, 6, 7]);
    assert_eq!(windows.targets(1), [13, 14, 15]);
}

#[test]
fn odd_windows_score_as_llama_perplexity_counts_them() {
    let tokens: Vec<u32> = (0..14).collect();
    let windows = Windows::new(&tokens, &protocol(7)).unwrap();
    // n_ctx - 1 - n_ctx / 2 predictions, from position n_ctx / 2 on.
    assert_eq!(windows.targets(0), [4, 5, 6]);
}

#[test]
fn bos_is_read_instead_of_the_first_token_but_never_predicted() {
    let tokens: Vec<u32> = (100..116).collect();
    let windows = Windows::new(&tokens, &Protocol { bos: Some(1), ..protocol(8) }).unwrap();
    let mut inputs = vec![];
    windows.extend_inputs(0, &mut inputs);
    windows.extend_inputs(1, &mut inputs);
    assert_eq!(inputs[..8], [1, 101, 102, 103, 104, 105, 106, 107]);
    assert_eq!(inputs[8..], [1, 109, 110, 111, 112, 113, 114, 115]);
    assert_eq!(windows.targets(1), [113, 114, 115]);
}

#[test]
fn a_limit_keeps_the_first_windows() {
    let tokens: Vec<u32> = (0..100).collect();
    let limited = Protocol { max_windows: Some(3), ..protocol(10) };
    assert_eq!(Windows::new(&tokens, &limited).unwrap().count(), 3);
    let none = Protocol { max_windows: Some(0), ..protocol(10) };
    assert_eq!(Windows::new(&tokens, &none).unwrap_err(), WindowError::NoWindows);
}

#[test]
fn short_texts_say_what_they_lack() {
    let error = Windows::new(&[0; 15], &protocol(8)).unwrap_err();
    assert_eq!(error, WindowError::TextTooShort { found: 15, needed: 16, n_ctx: 8 });
    assert_eq!(error.to_string(), "the text has 15 tokens; a context of 8 needs at least 16");
    assert_eq!(Windows::new(&[0; 9], &protocol(2)).unwrap_err(), WindowError::ContextTooSmall { n_ctx: 2 });
    let huge = Windows::new(&[0; 9], &protocol(usize::MAX)).unwrap_err();
    assert!(matches!(huge, WindowError::TextTooShort { needed: usize::MAX, .. }));
}

#[test]
fn tokens_outside_the_vocabulary_are_named() {
    let tokens = [0, 1, 2, 3, 4, 5, 6, 70];
    let windows = Windows::new(&tokens, &protocol(4)).unwrap();
    assert_eq!(windows.check_vocabulary(71), Ok(()));
    assert_eq!(windows.check_vocabulary(70), Err(WindowError::TokenOutOfRange { token: 70, vocab_size: 70 }));
    let with_bos = Windows::new(&tokens, &Protocol { bos: Some(99), ..protocol(4) }).unwrap();
    assert_eq!(
        with_bos.check_vocabulary(71),
        Err(WindowError::TokenOutOfRange { token: 99, vocab_size: 71 })
    );
}

/// Text positions of the tokens that each strided window scores, from the loop in Hugging Face's guide.
fn of_the_guide(tokens: usize, n_ctx: usize, stride: usize) -> Vec<(Range<usize>, Range<usize>)> {
    let mut windows = vec![];
    let mut previous_end = 0;
    for begin in (0..tokens).step_by(stride) {
        let end = (begin + n_ctx).min(tokens);
        let scored = end - previous_end;
        // labels are shifted by one: the first token of a window is predicted by nothing
        let first = (end - scored).max(begin + 1);
        windows.push((begin..end, first..end));
        previous_end = end;
        if end == tokens {
            break;
        }
    }
    windows.retain(|(_, scored)| !scored.is_empty());
    windows
}

#[test]
fn strided_windows_are_those_of_the_guide() {
    for n_ctx in 3..9 {
        for stride in 1..=n_ctx {
            for length in 2..40 {
                let tokens: Vec<u32> = (0..length as u32).collect();
                let protocol = Protocol { stride: Some(stride), bos: Some(7), ..protocol(n_ctx) };
                let windows = Windows::new(&tokens, &protocol).unwrap();
                let found: Vec<_> =
                    windows.all().iter().map(|w| (w.start..w.start + w.len, w.targets())).collect();
                assert_eq!(found, of_the_guide(length, n_ctx, stride), "{length} by {n_ctx}, {stride}");
                let scored: Vec<u32> =
                    (0..windows.count()).flat_map(|index| windows.targets(index)).copied().collect();
                if stride < n_ctx {
                    assert_eq!(scored, tokens[1..], "every token but the first, once");
                }
                let mut inputs = vec![];
                windows.extend_inputs(windows.count() - 1, &mut inputs);
                let last = &windows.all()[windows.count() - 1];
                assert_eq!(inputs, tokens[last.start..][..last.len], "BOS replaces nothing");
            }
        }
    }
}

#[test]
fn strides_that_stand_still_or_leave_tokens_out_are_refused() {
    for stride in [0, 9] {
        let protocol = Protocol { stride: Some(stride), ..protocol(8) };
        let error = Windows::new(&[0; 40], &protocol).unwrap_err();
        assert_eq!(error, WindowError::Stride { stride, n_ctx: 8 });
    }
    let protocol = Protocol { stride: Some(8), ..protocol(8) };
    let error = Windows::new(&[0], &protocol).unwrap_err();
    assert_eq!(error, WindowError::TextTooShort { found: 1, needed: 2, n_ctx: 8 });
    // a window longer than the text is the text
    let windows = Windows::new(&[0; 5], &protocol).unwrap();
    assert_eq!(windows.all(), [Window { start: 0, len: 5, scored: 0..4 }]);
}
