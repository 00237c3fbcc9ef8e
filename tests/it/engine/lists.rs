//! Lists, beside a plain filter.

use super::*;

/// Lists are what filtering and sorting all jobs in memory would give, page by page.
#[test]
fn lists_are_what_a_plain_filter_gives() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = TempDir::new().unwrap();
    let engine = runtime.block_on(async { open(directory.path()) });
    let mut all = Vec::new();
    runtime.block_on(async {
        for number in 0..300_u32 {
            let user = (number % 7).to_string();
            let labels: &[(&str, &str)] = match number % 3 {
                0 => &[],
                1 => &[("user", &user)],
                _ => &[("user", &user), ("other", "3")],
            };
            let id = format!("{}{number}", if number % 2 == 0 { "even-" } else { "odd-" });
            let mut stored = create(&engine, &new_job(&id, &format!("kind-{}", number % 4), labels)).await;
            let status = Status::ALL[number as usize % 5];
            if status != Status::Queued {
                let patch = Patch { status: Some(status), ..Patch::default() };
                stored = change(&engine, &stored, &Change::Patch(patch)).await;
            }
            all.push(stored.job);
        }
    });
    let some = |max: usize, of: usize| prop::collection::btree_set(0..of, 0..=max);
    let label = prop::option::of((prop::sample::select(vec!["user", "other", "none"]), 0..8_u32));
    let text = prop::option::of(prop::sample::select(vec!["even-", "odd-1", "3", "even-100", "nothing", "o"]));
    let strategy =
        (some(2, 5), some(2, 5), label, text, any::<bool>(), 1..40_usize, prop::sample::select(vec![7, 1000]));
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() });
    let checked = runner.run(&strategy, |(statuses, kinds, label, text, oldest, jobs_max, scan_max)| {
        let statuses: Vec<_> = statuses.into_iter().map(|index| Status::ALL[index]).collect();
        // The fifth kind does not exist.
        let kinds: Vec<_> = kinds.into_iter().map(|kind| Kind::try_from(&*format!("kind-{kind}")).unwrap()).collect();
        let labels: Vec<_> = label
            .into_iter()
            .map(|(key, value)| (LabelKey::try_from(key).unwrap(), LabelValue::try_from(&*value.to_string()).unwrap()))
            .collect();
        let mut expected: Vec<String> = all
            .iter()
            .filter(|job| statuses.is_empty() || statuses.contains(&job.status()))
            .filter(|job| kinds.is_empty() || kinds.contains(&job.spec.kind))
            .filter(|job| labels.iter().all(|(key, value)| job.labels.has(key, value)))
            .filter(|job| {
                text.is_none_or(|text| {
                    job.key().id.as_str().starts_with(text)
                        || job.labels.iter().any(|(_, value)| value.as_str() == text)
                })
            })
            .map(|job| job.key().id.to_string())
            .collect();
        if !oldest {
            expected.reverse();
        }
        let mut query = ListQuery {
            tenant: Tenant(0),
            statuses,
            kinds,
            labels,
            text: text.map(str::to_owned),
            order: if oldest { Order::Oldest } else { Order::Newest },
            after: None,
            jobs_max,
            scan_max,
        };
        let mut listed = Vec::new();
        let mut cursors = BTreeSet::new();
        loop {
            let page = runtime.block_on(engine.list(query.clone())).unwrap();
            prop_assert!(page.jobs.len() <= jobs_max);
            listed.extend(page.jobs.iter().map(|job| job.key().id.to_string()));
            let Some(Cursor(next)) = page.next else { break };
            prop_assert!(cursors.insert(next), "a page begins where an earlier one did");
            query.after = page.next;
        }
        prop_assert_eq!(listed, expected);
        Ok(())
    });
    checked.unwrap();
}
