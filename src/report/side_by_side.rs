//! Several studies as one, for a report that shows them side by side.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::results::{Results, distinct};

impl Results {
    /// Several studies as one, of which each optimizer bears its study's name. What they come to goes to `folder`.
    pub fn side_by_side(studies: Vec<Results>, name: &str, folder: &Path) -> Self {
        let mut all = Results { name: name.to_owned(), folder: folder.to_owned(), ..Results::default() };
        let (mut winners, mut tunings) = (Vec::new(), Vec::new());
        let (mut entries, mut epochs, mut lengths) = (Vec::new(), Vec::new(), Map::new());
        for mut study in studies {
            let named = |optimizer: &str| format!("{optimizer} ({})", study.name);
            // What each is on the command line, under its new name.
            for optimizer in distinct(study.curves.iter().map(|row| &row.optimizer)) {
                let known = study.command_line_name(&optimizer);
                entries.extend(known.map(|name| json!({ "name": name, "label": named(&optimizer) })));
            }
            for problem in study.problems() {
                let length = study.length(&problem).clone();
                lengths.insert(problem, length);
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
        all.meta["lengths"] = Value::Object(lengths);
        all.meta["winners"] = Value::Array(winners);
        all.meta["tuning"] = Value::Array(tunings);
        all.meta["experiment"] = json!({ "optimizer": entries });
        all
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::study::experiment::Metric;

    fn rows<T: DeserializeOwned>(text: &str) -> Vec<T> {
        csv::Reader::from_reader(text.as_bytes()).into_deserialize().map(|row| row.unwrap()).collect()
    }

    /// One row in each table, of Adam, and a curve of `Mine`, which is KFAC under a label.
    fn study(name: &str, metric: &str, last: usize) -> Results {
        let curves = "problem,optimizer,metric,epoch,median,lower_quartile,upper_quartile\n\
                      p,Adam,test_losses,0,1,1,1\np,Mine,test_losses,0,1,1,1\n";
        let finals = "problem,optimizer,learning_rate,damping,edge,metric,median,lower_quartile,upper_quartile,mean,std,n,\
                      diverged\np,Adam,0.1,,single,test_losses,1,1,1,1,0,1,0\n";
        let seeds = format!("problem,optimizer,seed,status,epoch\np,Adam,1,done,0\np,Adam,1,done,{last}\n");
        Results {
            name: name.to_owned(),
            curves: rows(curves),
            seeds: rows(&seeds),
            grid: rows("problem,optimizer,learning_rate,damping\np,Adam,0.1,\n"),
            finals: rows(finals),
            targets: rows("problem,optimizer,seed,metric,value,steps,epochs,seconds\np,Adam,1,test_losses,1,2,3,4\n"),
            tunings: rows("problem,optimizer,repeat,learning_rate,damping\np,Adam,1,0.1,\n"),
            single: rows(
                "optimizer,learning_rate,damping,problem,rank,settings,metric,value,best_value,test_loss,best_test_loss,\
                 test_accuracy,best_test_accuracy\nAdam,0.1,,p,1,2,test_losses,1,1,1,1,1,1\n",
            ),
            diagnostics: rows("problem,optimizer,seed,step,epoch,name,layer,value\np,Adam,1,10,1,norm,all,2\n"),
            meta: json!({
                "select": { "metric": metric },
                "diverged": "drop",
                "winners": [{ "problem": "p", "optimizer": "Adam", "learning_rate": last }],
                "tuning": [{ "problem": "p", "optimizer": "Adam", "budget": 10 + last }],
                "experiment": { "optimizer": [{ "name": "kfac", "label": "Mine" }] },
            }),
            notes: vec!["a note".to_owned()],
            ..Results::default()
        }
    }

    #[test]
    fn everything_bears_its_studys_name() {
        let studies = vec![study("one", "train_losses", 3), study("two", "test_losses", 3)];
        let all = Results::side_by_side(studies, "both", Path::new("folder"));
        let tables: [Vec<&String>; 7] = [
            all.seeds.iter().step_by(2).map(|row| &row.optimizer).collect(),
            all.grid.iter().map(|row| &row.optimizer).collect(),
            all.finals.iter().map(|row| &row.optimizer).collect(),
            all.targets.iter().map(|row| &row.optimizer).collect(),
            all.tunings.iter().map(|row| &row.optimizer).collect(),
            all.single.iter().map(|row| &row.optimizer).collect(),
            all.diagnostics.iter().map(|row| &row.optimizer).collect(),
        ];
        for table in tables {
            assert_eq!(table, ["Adam (one)", "Adam (two)"]);
        }
        assert_eq!(all.optimizers("p"), ["Adam (one)", "Mine (one)", "Adam (two)", "Mine (two)"]);
        for study in ["one", "two"] {
            // What it is on the command line, its setting and its tuning are found by the new name.
            assert_eq!(all.command_line_name(&format!("Mine ({study})")), Some("kfac"));
            let adam = format!("Adam ({study})");
            assert_eq!(all.command_line_name(&adam), Some("adam"));
            assert_eq!(all.setting("p", &adam), [("lr".to_owned(), "3".to_owned())]);
            assert_eq!(all.tuning("p", &adam).unwrap()["budget"], 13);
        }
        // The first study says by what was selected, and what diverged runs count for.
        assert_eq!((all.selection_metric(), &all.meta["diverged"]), (Metric::TrainLosses, &json!("drop")));
        assert_eq!(all.notes, ["one: a note", "two: a note"]);
        assert_eq!(all.studies.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn different_numbers_of_epochs_are_told() {
        let several = [study("one", "train_losses", 3), study("two", "train_losses", 4)];
        let all = Results::side_by_side(several.to_vec(), "both", Path::new("folder"));
        assert_eq!(all.notes.len(), 3);
        assert!(all.notes[2].contains("different numbers of epochs"), "{:?}", all.notes);
    }
}
