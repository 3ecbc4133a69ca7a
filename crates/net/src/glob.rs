/// Tells whether `pattern` matches all of an interface's name: `*` stands for any characters, `?` for one byte, anything
/// else for itself, as in a shell without brackets.
pub fn glob_matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // Where the last `*` is and how much of the text it stands for; a mismatch gives it one more.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                at = place + 1;
                seen = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|&left| left == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters() {
        let table = [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth?", "eth1", true),
            ("eth?", "eth", false),
            ("eth*", "eth", true),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("cali*", "cali0123456789a", true),
            ("*.cali", "vxlan.cali", true),
            ("*.cali", "vxlan.calico", false),
            ("b*d*0", "bond0.100", true),
            ("b*d*0", "bond0.101", false),
            ("*ab*", "aab", true),
            ("**", "", true),
            ("eth?", "eth10", false),
        ];
        for (pattern, text, expected) in table {
            assert_eq!(glob_matches(pattern, text), expected, "{pattern} against {text}");
        }
    }
}
