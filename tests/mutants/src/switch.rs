//! Puts the switches into a file of the copy.

use crate::list::Guard;

/// The environment variable that names the guard that is gone.
pub const VARIABLE: &str = "WAL_GUARD_GONE";

/// A piece of the source that is replaced.
struct Edit<'a> {
    from: usize,
    to: usize,
    text: &'a str,
    name: &'a str,
}

/// The source with a switch for each of the guards, all of which are in it.
///
/// # Errors
///
/// A guard whose text does not stand in the source once, or that changes the same bytes as another.
pub fn with_switches(source: &str, guards: &[&Guard]) -> Result<String, String> {
    let mut edits = guards.iter().map(|guard| edit(source, guard)).collect::<Result<Vec<_>, _>>()?;
    edits.sort_by_key(|edit| (edit.from, edit.to));
    let mut result = String::with_capacity(source.len() * 2);
    let mut at = 0;
    for edit in edits {
        if edit.from < at {
            return Err(format!("{}: the same bytes are changed by the guard before it", edit.name));
        }
        result.push_str(&source[at..edit.from]);
        result.push_str(&edit.text.replace("GONE", &switch(edit.name)));
        at = edit.to;
    }
    result.push_str(&source[at..]);
    Ok(result)
}

/// What differs between the two texts of a guard, so that several guards can share the text around it.
fn edit<'a>(source: &str, guard: &'a Guard) -> Result<Edit<'a>, String> {
    let Guard { name, file, before, after, .. } = guard;
    if !after.contains("GONE") {
        return Err(format!("{name}: its second text has no switch"));
    }
    let mut places = source.match_indices(before.as_str());
    let (Some((from, _)), None) = (places.next(), places.next()) else {
        return Err(format!("{name}: its text stands {} times in {file}", source.matches(before.as_str()).count()));
    };
    let same = |pair: &(char, char)| pair.0 == pair.1;
    let head: usize = before.chars().zip(after.chars()).take_while(same).map(|(char, _)| char.len_utf8()).sum();
    let (rest_before, rest_after) = (&before[head..], &after[head..]);
    let tail = rest_before.chars().rev().zip(rest_after.chars().rev()).take_while(same);
    let tail: usize = tail.map(|(char, _)| char.len_utf8()).sum();
    let text = &rest_after[..rest_after.len() - tail];
    Ok(Edit { from: from + head, to: from + before.len() - tail, text, name })
}

/// An expression that is true if the guard is gone. It stands for itself, so that a file that is compiled into several crates can have it.
fn switch(name: &str) -> String {
    format!(
        "({{ static GONE: std::sync::OnceLock<bool> = std::sync::OnceLock::new(); \
         *GONE.get_or_init(|| std::env::var_os(\"{VARIABLE}\").is_some_and(|name| name == \"{name}\")) }})"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::parse;

    #[test]
    fn two_guards_may_share_the_text_around_them_and_not_the_bytes_they_change() {
        let text = "file a.rs\nguard one\n-if a && b {\n+if (a || GONE) && b {\nguard two\n-if a && b {\n+if a && b && !GONE {\n\
                    guard three\n-a && b\n+a && (b || GONE)\nguard four\n-if a\n+if a && GONE || c\n";
        let list = parse(text).expect("a list");
        let source = "fn f() { if a && b { g() } }";
        let all: Vec<&Guard> = list.iter().collect();
        let changed = with_switches(source, &all[..2]).expect("they fit");
        assert!(changed.starts_with("fn f() { if (a || ({") && changed.ends_with(" { g() } }"), "{changed}");
        assert!(with_switches(source, &[all[1], all[2]]).is_ok());
        assert!(with_switches("a && b, a && b", &all[2..3]).is_err(), "its text stands there twice");
    }
}
