//! The date a chat template is told.

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// Year.
    pub year: u16,
    /// Month, 1 to 12.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Date {
    /// The day that Llama 3's templates name where there is no clock.
    pub const DEFAULT: Date = Date { year: 2024, month: 7, day: 26 };

    /// Formats as C's `strftime` does in the C locale, at midnight. Directives that chat templates use:
    /// `%Y %y %m %b %B %d %e %j %A %a %H %M %S %%`, and `%-d %-m` without padding.
    ///
    /// # Errors
    /// A directive that is not among them; an impossible date.
    pub fn format(self, format: &str) -> Result<String, String> {
        let Date { year, month, day } = self;
        let name = MONTHS.get(usize::from(month).wrapping_sub(1)).filter(|_| (1..=31).contains(&day));
        let Some(name) = name else { return Err(format!("{self:?} is no date")) };
        let weekday = WEEKDAYS[self.weekday()];
        let mut out = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                out.push(character);
                continue;
            }
            let directive = characters.next();
            let text = match directive {
                Some('Y') => year.to_string(),
                Some('y') => format!("{:02}", year % 100),
                Some('m') => format!("{month:02}"),
                Some('B') => (*name).to_owned(),
                Some('b') => name[..3].to_owned(),
                Some('d') => format!("{day:02}"),
                Some('e') => format!("{day:2}"),
                Some('j') => format!("{:03}", self.day_of_year()),
                Some('A') => weekday.to_owned(),
                Some('a') => weekday[..3].to_owned(),
                Some('H' | 'M' | 'S') => "00".to_owned(),
                Some('%') => "%".to_owned(),
                Some('-') => match characters.next() {
                    Some('d') => day.to_string(),
                    Some('m') => month.to_string(),
                    other => return Err(format!("strftime_now: directive %-{} is not known", shown(other))),
                },
                other => return Err(format!("strftime_now: directive %{} is not known", shown(other))),
            };
            out.push_str(&text);
        }
        Ok(out)
    }

    /// 1 for the first of January.
    fn day_of_year(self) -> u32 {
        let leap =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let before: u32 = lengths.iter().take(usize::from(self.month) - 1).sum();
        before + u32::from(self.day)
    }

    /// 0 for Sunday: the first of January of year 1 was a Monday (proleptic Gregorian calendar).
    fn weekday(self) -> usize {
        let years = u32::from(self.year).saturating_sub(1);
        ((years + years / 4 - years / 100 + years / 400 + self.day_of_year()) % 7) as usize
    }
}

fn shown(directive: Option<char>) -> String {
    directive.map(String::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let text = Date::DEFAULT.format("%A %a %Y-%m-%d %y %B %b %e %j %H:%M %-m %%").unwrap();
        assert_eq!(text, "Friday Fri 2024-07-26 24 July Jul 26 208 00:00 7 %");
        assert_eq!(Date { year: 2000, month: 3, day: 1 }.format("%a %j").unwrap(), "Wed 061");
        assert!(Date::DEFAULT.format("%Q").is_err());
        assert!(Date { year: 2024, month: 13, day: 1 }.format("%Y").is_err());
    }
}
