//! The sorted list that stands for maps.

use std::collections::BTreeMap;

use super::super::table::Table;
use super::rng::Rng;

#[test]
fn a_table_does_what_a_map_does() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let (mut table, mut map) = (Table::default(), BTreeMap::new());
        for step in 0..100_u64 {
            let key = rng.below(20);
            if rng.percent(30) {
                assert_eq!(table.remove(&key), map.remove(&key));
            } else {
                table.insert(key, step);
                map.insert(key, step);
            }
            assert_eq!(table.get(&key), map.get(&key));
            assert_eq!(table.get_mut(&7), map.get_mut(&7));
            assert!(table.iter().eq(map.iter()), "seed {seed}, step {step}");
        }
        table.retain(|key| key % 2 == 0);
        map.retain(|key, _| key % 2 == 0);
        assert!(table.values().eq(map.values()) && table.len() == map.len(), "seed {seed}");
    }
}
