//! Several studies as one, for a report that shows them side by side.

use std::path::Path;

use serde_json::{Value, json};

use super::results::{Results, distinct};

impl Results {
    /// Several studies as one, of which each optimizer bears its study's name. What they come to goes to `folder`.
    pub fn side_by_side(studies: Vec<Results>, name: &str, folder: &Path) -> Self {
        let mut all = Results { name: name.to_owned(), folder: folder.to_owned(), ..Results::default() };
        let (mut winners, mut tunings) = (Vec::new(), Vec::new());
        let (mut entries, mut epochs) = (Vec::new(), Vec::new());
        for mut study in studies {
            let named = |optimizer: &str| format!("{optimizer} ({})", study.name);
            // What each is on the command line, under its new name.
            for optimizer in distinct(study.curves.iter().map(|row| &row.optimizer)) {
                let known = study.command_line_name(&optimizer);
                entries.extend(known.map(|name| json!({ "name": name, "label": named(&optimizer) })));
            }
            for (key, all) in [("winners", &mut winners), ("tuning", &mut tunings)] {
                all.extend(study.meta[key].as_array().into_iter().flatten().map(|entry| {
                    let mut entry = entry.clone();
                    entry["optimizer"] = named(entry["optimizer"].as_str().unwrap_or_default()).into();
                    entry
                }));
            }
            study.curves.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.seeds.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.grid.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.finals.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.targets.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.tunings.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.single.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            study.diagnostics.iter_mut().for_each(|row| row.optimizer = named(&row.optimizer));
            if all.meta.is_null() {
                all.meta = json!({ "select": study.meta["select"], "diverged": study.meta["diverged"] });
            }
            epochs.extend(study.seeds.iter().map(|row| row.epoch).max());
            all.notes.extend(study.notes.iter().map(|note| format!("{}: {note}", study.name)));
            all.curves.extend(study.curves);
            all.seeds.extend(study.seeds);
            all.grid.extend(study.grid);
            all.finals.extend(study.finals);
            all.targets.extend(study.targets);
            all.tunings.extend(study.tunings);
            all.single.extend(study.single);
            all.diagnostics.extend(study.diagnostics);
            all.studies.push((study.name, study.meta));
        }
        if epochs.iter().any(|last| *last != epochs[0]) {
            all.notes.push(
                "The studies have different numbers of epochs; those that ended earlier are not compared with the others."
                    .to_owned(),
            );
        }
        all.meta["winners"] = Value::Array(winners);
        all.meta["tuning"] = Value::Array(tunings);
        all.meta["experiment"] = json!({ "optimizer": entries });
        all
    }
}
