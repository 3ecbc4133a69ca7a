use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Asks again until the answer is there: `Ok` ends the wait, `Err` says what is missing. After `limit` the last answer
/// is the error, with `what` before it.
pub fn until<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(why) if Instant::now() >= deadline => {
                return Err(anyhow!("{what}: not so after {:.1} s: {why:#}", limit.as_secs_f64()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_is_in_the_error() {
        let error = until::<()>(Duration::from_millis(30), "the light", || Err(anyhow!("still dark")))
            .expect_err("it never succeeds");
        assert!(format!("{error}").starts_with("the light: not so after 0.0 s: still dark"), "{error}");
    }

    #[test]
    fn it_ends_with_the_first_success() {
        let mut asked = 0;
        let answer = until(Duration::from_secs(5), "three", || {
            asked += 1;
            if asked == 3 { Ok(asked) } else { Err(anyhow!("{asked}")) }
        });
        assert_eq!(answer.ok(), Some(3));
    }
}
