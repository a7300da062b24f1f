//! Rows and columns out of a matrix, and what stays back in its place.

use slmc_prune::structured::solve::{columns_of, others, rows_of};

/// What stays of a tensor's rows and of its columns, ascending; `None` for all.
pub type Staying<'a> = (Option<&'a [usize]>, Option<&'a [usize]>);

/// What stays of a matrix of `columns` columns.
pub fn cut_out(values: &[f32], columns: usize, (rows, some): Staying<'_>) -> Vec<f32> {
    let of_rows = rows.map(|rows| rows_of(values, columns, rows));
    let values = of_rows.as_deref().unwrap_or(values);
    some.map_or_else(|| values.to_vec(), |some| columns_of(values, columns, some))
}

/// What stays, in a matrix of its old shape (`[rows, columns]`) with zeros where something was cut out.
pub fn put_back(staying: &[f32], [rows, columns]: [usize; 2], (some_rows, some): Staying<'_>) -> Vec<f32> {
    let mut values = vec![0.0; rows * columns];
    let width = some.map_or(columns, <[usize]>::len);
    for (at, staying) in staying.chunks_exact(width).enumerate() {
        let row = &mut values[some_rows.map_or(at, |rows| rows[at]) * columns..][..columns];
        match some {
            Some(some) => some.iter().zip(staying).for_each(|(column, value)| row[*column] = *value),
            None => row.copy_from_slice(staying),
        }
    }
    values
}

/// Makes every other row and column of a matrix of `columns` columns zero.
pub fn keep_only(values: &mut [f32], columns: usize, (rows, some): Staying<'_>) {
    if let Some(rows) = rows {
        let gone = others(rows, values.len() / columns);
        gone.iter().for_each(|row| values[row * columns..][..columns].fill(0.0));
    }
    if let Some(some) = some {
        let gone = others(some, columns);
        for row in values.chunks_exact_mut(columns) {
            gone.iter().for_each(|column| row[*column] = 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_stands_where_it_stood() {
        let values: Vec<f32> = (1..=12).map(|n| n as f32).collect();
        for rows in [None, Some(&[0, 2][..])] {
            for columns in [None, Some(&[1, 2][..])] {
                let staying = (rows, columns);
                let mut zeros = values.clone();
                keep_only(&mut zeros, 4, staying);
                let cut = cut_out(&values, 4, staying);
                assert_eq!(cut.len(), rows.map_or(3, <[_]>::len) * columns.map_or(4, <[_]>::len));
                assert_eq!(put_back(&cut, [3, 4], staying), zeros);
            }
        }
        assert_eq!(cut_out(&values, 4, (Some(&[2]), Some(&[0, 3]))), [9.0, 12.0]);
    }
}
