//! Logs of any length: rows of a bounded size, any line of them, and what is trimmed.

use super::*;

#[tokio::test]
async fn many_lines_in_one_commit_become_rows_of_a_bounded_size() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let new = new_job("a", "k", &[]);
    let before = Job::create(&new, &limits(), NOW).next;
    // As an import brings them: forty portions of 20 KiB.
    let mut job = before.clone();
    let mut portions = Vec::new();
    for portion in 0..40 {
        let lines = append((0..20).map(|line| format!("{portion} {line} {}", "x".repeat(980))));
        let applied = job.apply(&lines, &Guard::default(), &limits(), NOW).expect("the lines are taken");
        job = applied.next;
        portions.push(applied.lines);
    }
    let put = Put::New { job: Arc::new(job), input: None };
    let outcome = commit(
        &engine,
        Write { key: key("a"), before: None, put, lines: portions.clone(), history: History::default(), once: None },
    )
    .await;
    let Outcome::Committed(place) = outcome else { panic!("{outcome:?}") };
    // Four portions go over 64 KiB.
    assert_eq!(place.rows, 10);
    let stored = find(&engine, "a").await;
    assert_eq!(stored.place, place);
    let lines = log(&engine, &stored, LogEnd::After(0), 1000).await;
    assert_eq!(lines, portions.iter().flat_map(|lines| lines.iter().cloned()).collect::<Vec<_>>());
    engine.close().await.expect("it closes");
}

#[tokio::test]
async fn any_line_of_a_long_log_is_found_and_trimmed_ones_are_freed() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut stored = create(&engine, &new_job("long", "k", &[])).await;
    let mut said: Vec<String> = Vec::new();
    // Far over the longer stride, in rows of one to three lines, and over the limit, so that old ones go.
    for step in 0..13_000_usize {
        let texts: Vec<_> = (0..step % 3 + 1).map(|line| format!("line {} of step {step}", line + 1)).collect();
        said.extend(texts.clone());
        stored = change(&engine, &stored, &append(texts)).await;
    }
    let count = said.len() as u64;
    assert_eq!(stored.job.log.count, count);
    assert_eq!(stored.job.log.dropped, count - 20_000);
    let first = stored.job.log.first();
    let expect = |from: u64, until: u64| -> Vec<(u64, String)> {
        (from..=until).map(|seq| (seq, said[usize::try_from(seq).unwrap() - 1].clone())).collect()
    };
    let told = |lines: Vec<LogLine>| -> Vec<(u64, String)> {
        lines.into_iter().map(|line| (line.seq, line.text.to_string())).collect()
    };
    for after in [0, first - 1, first, first + 1, first + 4_095, first + 4_096, first + 4_097, count - 2, count - 1] {
        let from = after.max(first - 1) + 1;
        let read = told(log(&engine, &stored, LogEnd::After(after), 70).await);
        assert_eq!(read, expect(from, count.min(from + 69)), "after {after}");
    }
    assert_eq!(log(&engine, &stored, LogEnd::After(count), 70).await, []);
    assert_eq!(told(log(&engine, &stored, LogEnd::Newest, 100).await), expect(count - 99, count));
    assert_eq!(told(log(&engine, &stored, LogEnd::Newest, 100_000).await), expect(first, count));
    engine.close().await.unwrap();
    let rows = |query: &str| -> u64 {
        let file = rusqlite::Connection::open(directory.path().join("milepost.db")).unwrap();
        file.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
    };
    // 20,000 lines are kept in two rows of three; trimming is freed a thousand lines at a time.
    assert!(rows("SELECT count(*) FROM log_rows") < 10_000 + 1_100);
    drop(engine);
    let engine = open(directory.path());
    let stored = find(&engine, "long").await;
    let write = deletion(&stored, Timestamp(NOW.0 + 5));
    assert!(matches!(commit(&engine, write).await, Outcome::Committed(_)));
    // Freeing goes on in the background; each commit does its part as well, so enough of them have freed it all.
    for step in 0..200 {
        create(&engine, &new_job(&format!("other-{step}"), "k", &[])).await;
    }
    engine.close().await.unwrap();
    assert_eq!(rows("SELECT count(*) FROM log_rows"), 0);
    for table in ["details", "timeline_rows", "inputs", "results", "labels", "freed", "freed_timeline"] {
        let left = rows(&format!("SELECT count(*) FROM {table}"));
        // One for each of the others.
        assert_eq!(left, if ["details", "timeline_rows"].contains(&table) { 200 } else { 0 }, "{table}");
    }
}

#[tokio::test]
async fn a_page_of_a_log_keeps_to_its_bytes_from_either_end() {
    let directory = TempDir::new().unwrap();
    let engine = open(directory.path());
    let mut stored = create(&engine, &new_job("bytes", "k", &[])).await;
    for _ in 0..10 {
        stored = change(&engine, &stored, &append((0..3).map(|_| "x".repeat(100)))).await;
    }
    let seqs = async |from, bytes_max| {
        let slice = LogSlice { from, lines_max: 1000, bytes_max };
        let lines = engine.log(&stored, slice).await.unwrap().unwrap();
        lines.into_iter().map(|line| line.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs(LogEnd::After(4), 450).await, [5, 6, 7, 8]);
    assert_eq!(seqs(LogEnd::Newest, 450).await, [27, 28, 29, 30]);
    assert_eq!(seqs(LogEnd::After(4), 1).await, [5], "the first line is always given");
    assert_eq!(seqs(LogEnd::Newest, 1).await, [30]);
}
