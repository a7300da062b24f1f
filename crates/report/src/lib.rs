//! Measurements as data frames, and their renderings: JSON, Parquet, Markdown, JUnit XML, GitHub annotations and HTML.
