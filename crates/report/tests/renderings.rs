//! What people and CI systems read: whole, safe whatever a model is called, and the same every time.

mod sample;

use quick_junit::{NonSuccessKind, TestCaseStatus};
use sample::{BASE, HOSTILE, everything};
use slmc_report::{Metric, Report, Rows, Scope, github, html, junit, markdown};

/// The elements of a page or chart, in order: (name, attributes), closing ones with a slash. Panics where tags, quotes or entities
/// are not what XML asks for; `void` elements need no end.
fn elements(text: &str, void: &[&str]) -> Vec<(String, Vec<(String, String)>)> {
    let (mut rest, mut open, mut found) = (text, Vec::new(), Vec::new());
    let entities = |text: &str| {
        for (at, _) in text.match_indices('&') {
            let entity = text[at..].split_once(';').map_or("", |(entity, _)| entity);
            assert!(
                ["&amp", "&lt", "&gt", "&quot", "&apos", "&#x27", "&#x2f"].contains(&entity),
                "{}",
                &text[at..]
            );
        }
    };
    while let Some((before, after)) = rest.split_once('<') {
        entities(before);
        // attribute values may hold `>`
        let mut quoted = false;
        let end = after.char_indices().find(|(_, c)| {
            quoted ^= *c == '"';
            *c == '>' && !quoted
        });
        let (tag, tail) = after.split_at(end.expect("a tag ends").0);
        rest = &tail[1..];
        if tag.starts_with('!') {
            continue;
        }
        let tag = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut attributes) = tag.0.split_once(char::is_whitespace).unwrap_or((tag.0, ""));
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "an element ends that another one is in");
            found.push((format!("/{name}"), Vec::new()));
            continue;
        }
        let mut pairs = Vec::new();
        while let Some((key, value)) = attributes.trim_start().split_once("=\"") {
            let (value, tail) = value.split_once('"').expect("a value ends");
            assert!(key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "attribute {key:?}");
            assert!(!value.contains('<'), "{value}");
            entities(value);
            assert!(pairs.iter().all(|(other, _)| other != key), "{key} twice in {tag:?}");
            pairs.push((key.to_owned(), value.to_owned()));
            attributes = tail;
        }
        assert!(attributes.trim().is_empty(), "{attributes:?} in {tag:?}");
        if !tag.1 && !void.contains(&name) {
            open.push(name.to_owned());
        }
        found.push((name.to_owned(), pairs));
        if name == "style" {
            // a style sheet is no markup
            let (_, tail) = rest.split_once("</style>").expect("it ends");
            open.pop();
            rest = tail;
        }
    }
    entities(rest);
    assert_eq!(open, [""; 0], "elements that do not end");
    found
}

#[test]
fn the_page_loads_nothing_and_runs_nothing() {
    let page = html::write(&everything("out/q4.gguf")).unwrap();
    assert!(!page.contains("://"), "an address");
    for part in ["url(", "@import", "src=", "href=", "<script", "<link", "<iframe", "javascript:", "onload"] {
        assert!(!page.contains(part), "{part}");
    }
}

#[test]
fn the_page_is_well_formed_and_its_charts_have_names() {
    let page = html::write(&everything("out/q4.gguf")).unwrap();
    let elements = elements(&page, &["meta"]);
    let mut ids: Vec<&str> = elements
        .iter()
        .flat_map(|(_, attributes)| attributes)
        .filter(|(key, _)| key == "id")
        .map(|(_, id)| id.as_str())
        .collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "an id stands twice");
    let charts: Vec<_> = elements.iter().filter(|(name, _)| name == "svg").collect();
    assert_eq!(
        charts.len(),
        7 + 3 + 3 + 2,
        "layers, losses and sizes, positions and windows, accuracy and latency"
    );
    for (_, attributes) in charts {
        let get = |key: &str| &attributes.iter().find(|(k, _)| k == key).unwrap().1;
        assert_eq!(get("role"), "img");
        assert!(get("aria-labelledby").split(' ').all(|id| ids.contains(&id)));
        assert!(!attributes.iter().any(|(key, _)| key == "width"), "a chart of fixed width");
    }
    // colours are the page's alone
    let drawn = page.split("<svg").skip(1).flat_map(|rest| rest.split("</svg>").next());
    for chart in drawn {
        assert!(!chart.contains("fill=\"#") && !chart.contains("stroke=\"#"), "{chart}");
        assert!(!chart.contains("NaN") && !chart.contains("inf"), "{chart}");
    }
}

#[test]
fn names_stay_names_in_every_format() {
    let report = everything(HOSTILE);
    let page = html::write(&report).unwrap();
    elements(&page, &["meta"]);
    assert!(!page.contains("<script"), "the model's name became an element");
    assert!(page.contains("&lt;script&gt;"));
    for text in [markdown::write(&report).unwrap(), markdown::gate(&report).unwrap()] {
        assert!(!text.replace("\\<", "").contains('<'), "{text}");
        tables(&text);
    }
    let again = quick_junit::Report::deserialize_from_str(&junit::write(&report).unwrap()).unwrap();
    assert_eq!(again.test_suites[0].properties[0].value.as_str(), HOSTILE);
    for line in github::annotations(&everything("a\n::error::b, c: 100 %")) {
        assert_eq!(line.lines().count(), 1);
        let title = line.split_once("title=").unwrap().1.split_once("::").unwrap().0;
        assert!(!title.contains([',', ':', '\n']), "{title}");
    }
}

/// Every table of a Markdown text has a rule below its header and as many cells in every row; how many tables there are.
fn tables(text: &str) -> usize {
    let cells = |line: &str| {
        let inner =
            line.strip_prefix("| ").and_then(|line| line.strip_suffix('|')).expect("a row of a table");
        inner.replace("\\\\", "").replace("\\|", "").matches('|').count() + 1
    };
    let lines: Vec<&str> = text.lines().collect();
    let blocks = lines.split(|line| !line.starts_with('|')).filter(|block| !block.is_empty());
    let mut found = 0;
    for block in blocks {
        assert!(block.len() >= 3, "{block:?}");
        assert!(block[1].chars().all(|c| "|-: ".contains(c)), "{}", block[1]);
        assert!(block.iter().all(|line| cells(line) == cells(block[0])), "{block:#?}");
        found += 1;
    }
    found
}

#[test]
fn markdown_has_the_figures_and_tables_of_the_page() {
    let report = everything("out/q4.gguf");
    let text = markdown::write(&report).unwrap();
    assert!(text.starts_with("# slmc gate: q4.gguf\n\n**Regression: a limit is broken.**\n"), "{text}");
    let page = html::write(&report).unwrap();
    assert_eq!(tables(&text), page.matches("<table>").count() + 1, "the headline figures are a table here");
    for part in ["| KL divergence | 0.00228 | ± 0.00008 |", "| perplexity | 200.562 | +0.73 % from 199.099 |"]
    {
        assert!(text.contains(part), "{part}");
    }
    let comment = markdown::gate(&report).unwrap();
    assert!(comment.contains("| KL divergence, at most | **regression** | 0.00200 | 0.00228 |"), "{comment}");
    assert!(comment.contains("**needs about 310 windows**"), "{comment}");
    assert_eq!(tables(&comment), 2);
    assert!(comment.lines().count() < 40, "short enough for a comment");
}

#[test]
fn junit_has_a_case_a_limit() {
    let text = junit::write(&everything("out/q4.gguf")).unwrap();
    let report = quick_junit::Report::deserialize_from_str(&text).unwrap();
    assert_eq!((report.tests, report.failures, report.errors), (5, 1, 2));
    let statuses: Vec<_> = report.test_suites[0]
        .test_cases
        .iter()
        .map(|case| match &case.status {
            TestCaseStatus::Success { .. } => "success",
            TestCaseStatus::NonSuccess { kind: NonSuccessKind::Failure, .. } => "failure",
            TestCaseStatus::NonSuccess { kind: NonSuccessKind::Error, .. } => "error",
            TestCaseStatus::Skipped { .. } => "skipped",
        })
        .collect();
    assert_eq!(statuses, ["failure", "error", "success", "success", "error"]);
    assert!(text.contains("KL divergence 0.00228 (0.00214 … 0.00244), allowed at most 0.00200: regression"));
    assert!(!text.contains("timestamp"), "the same outcome is the same text");
}

#[test]
fn annotations_name_what_failed_and_nothing_else() {
    let lines = github::annotations(&everything("out/q4.gguf"));
    assert_eq!(lines.len(), 3);
    assert_eq!(
        lines[0],
        "::error title=slmc gate%3A q4.gguf%3A regression::KL divergence 0.00228 (0.00214 … 0.00244), allowed at most 0.00200: \
         regression"
    );
    assert!(lines[1].contains("+0.73 %25"), "{}", lines[1]);
    let mut rows = Rows::new("q4.gguf", None::<&str>);
    rows.add(Scope::Summary, Metric::Verdict).text("passed");
    rows.add(Scope::Check, Metric::Bytes).item("max_size").value(1e6);
    rows.add(Scope::Check, Metric::Limit).item("max_size").value(2e6);
    rows.add(Scope::Check, Metric::Verdict).item("max_size").text("passed");
    let lines = github::annotations(&Report::new(rows.finish()));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("::notice title="), "{}", lines[0]);
}

#[test]
fn a_report_of_little_is_a_page_of_little() {
    let mut rows = Rows::new(BASE, None::<&str>);
    rows.add(Scope::Run, Metric::Command).text("slmc eval models/tiny");
    rows.add(Scope::Summary, Metric::Perplexity).value(12.5).stderr(0.25);
    let report = Report::new(rows.finish());
    let page = html::write(&report).unwrap();
    elements(&page, &["meta"]);
    assert_eq!(page.matches("<svg").count(), 1);
    assert!(page.contains("<h1>tiny</h1>") && page.contains("12.500"), "{page}");
    assert_eq!(tables(&markdown::write(&report).unwrap()), 3);
}
