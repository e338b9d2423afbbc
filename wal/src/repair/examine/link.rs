//! The second half of making a plan: each segment follows from the one before it, and every change has its steps.

use super::*;

impl Exam<'_> {
    /// Makes each segment follow from the one before it.
    pub(super) fn link(&mut self) -> Result<()> {
        for index in 1..self.links.len() {
            let (before, link) = (&self.links[index - 1], &self.links[index]);
            let (end, checksum) = (before.end(), before.salvage.last_checksum());
            let header = link.header;
            if end > header.base {
                let detail = format!("its records and those of segment {} claim the same LSNs", before.number);
                let error = Error::new(ErrorKind::Corruption, "repair log", detail);
                return Err(error.at_path(self.dir.path_of(&name::segment(link.number))).at_lsn(header.base));
            }
            if (header.predecessor_end, header.predecessor_checksum) == (end, checksum) {
                continue;
            }
            // That what is before it was changed by this repair needs no finding of its own.
            if !before.is_changed && !link.is_changed {
                let explanation = format!(
                    "its header names another end of segment {} than that has: LSN {} with checksum {:08x}, not LSN {end} with checksum \
                     {checksum:08x}. All records of both are valid and are kept",
                    before.number, header.predecessor_end, header.predecessor_checksum
                );
                self.find(FindingKind::BrokenLink, &name::segment(header.segment), Some(0), Some(end), explanation);
            }
            let link = &mut self.links[index];
            link.header.predecessor_end = end;
            link.header.predecessor_checksum = checksum;
            link.is_changed = true;
        }
        Ok(())
    }

    /// What becomes of each file.
    pub(super) fn judge_files(&mut self) -> Result<()> {
        let links = std::mem::take(&mut self.links);
        let last = links.last().map(|link| link.number);
        for link in &links {
            self.plan.records_kept += link.salvage.records();
            if link.is_changed {
                self.change(link, Some(link.number) == last)?;
            }
        }
        for number in self.sources.unusable.keys().copied().collect::<Vec<_>>() {
            self.judge_unusable(number, &links)?;
        }
        for (temp, bytes) in self.sources.stranded.clone() {
            if self.plan.actions.writes.iter().any(|write| {
                write.content == Content::Adopted && temp == name::temp(&name::segment(write.header.segment))
            }) {
                continue;
            }
            let explanation =
                "a replacement of a segment that is missing was left behind, and it does not fit there. It is kept in the quarantine".to_owned();
            self.find(FindingKind::StrandedTemp, &temp, None, None, explanation);
            self.save(&temp, bytes)?;
            self.plan.actions.removals.push(temp);
        }
        self.links = links;
        Ok(())
    }

    fn change(&mut self, link: &Link, is_last: bool) -> Result<()> {
        let file = name::segment(link.number);
        let mut header = SegmentHeader { sealed_end: Some(link.end()), ..link.header };
        header.limit = header.limit.max(link.end());
        let Some(source) = &link.source else {
            let write =
                Write { header: SegmentHeader { sealed_end: Some(header.base), ..header }, content: Content::Empty };
            self.plan.actions.writes.push(write);
            return Ok(());
        };
        if source.name == name::temp(&file) && source.header == header {
            let explanation = format!(
                "segment {} is missing, and its complete replacement was left behind. It gets its name; nothing of it is lost",
                link.number
            );
            self.find(FindingKind::StrandedTemp, &source.name, None, Some(header.base), explanation);
            self.plan.actions.writes.push(Write { header, content: Content::Adopted });
            return Ok(());
        }
        if source.name != file {
            let explanation = format!("it holds segment {}, which goes where it belongs", link.number);
            self.find(FindingKind::Misplaced, &source.name, Some(0), Some(header.base), explanation);
            self.save(&source.name, u64::MAX)?;
        }
        if source.is_inferred {
            let why = self.sources.unusable.get(&link.number).map_or("", |unusable| unusable.why.as_str());
            let explanation = format!(
                "its header cannot be used: {why}. Its records prove what stood in it, and it is written again"
            );
            self.find(FindingKind::DamagedHeader, &file, Some(0), Some(header.base), explanation);
        }
        // A segment of which only the header changes loses nothing but that.
        let is_whole = link.salvage.breaks.is_empty() && !source.is_inferred && !is_last;
        self.save(&file, if is_whole { HEADER_BYTES } else { u64::MAX })?;
        if is_last && !self.dropped.is_empty() {
            // What is behind it is void from the moment on at which it gets its name.
            header.epoch = self.sources.epoch_max + 1;
            header.limit = self.limit_behind().max(header.limit);
        }
        let runs = link.salvage.runs.iter().map(|run| (run.from, run.end)).collect();
        let content = Content::Runs { source: source.name.clone(), old: source.header, runs };
        self.plan.actions.writes.push(Write { header, content });
        Ok(())
    }

    fn judge_unusable(&mut self, number: u64, links: &[Link]) -> Result<()> {
        let unusable = self.sources.unusable[&number].clone();
        let file = name::segment(number);
        let is_replaced = links.iter().any(|link| link.number == number);
        if is_replaced || unusable.is_foreign {
            self.save(&file, u64::MAX)?;
        }
        if is_replaced || number < links.first().map_or(0, |link| link.number) {
            return Ok(());
        }
        if unusable.is_foreign {
            let explanation = format!("{}. It is taken out of the log", unusable.why);
            self.find(FindingKind::Misplaced, &file, Some(0), None, explanation);
            self.plan.actions.removals.push(file);
        } else if !unusable.is_blank && !unusable.is_void && !links.is_empty() {
            self.save(&file, u64::MAX)?;
            let explanation =
                format!("{}. Nothing proves that records in it were ever durable; it is removed", unusable.why);
            self.find(FindingKind::TornTail, &file, Some(0), None, explanation);
            let end = links.last().map_or(self.control.start, Link::end);
            if self.plan.losses.iter().all(|loss| loss.to.is_some()) {
                self.lose(end, None, 0, false);
            }
        }
        Ok(())
    }

    /// The control file, and the steps in words.
    pub(super) fn finish(mut self, is_torn: bool) -> Result<Plan> {
        if self.links.is_empty() {
            self.start_anew()?;
        }
        if is_torn {
            let torn = self.links.last().map(|link| name::segment(link.number));
            let behind: Vec<String> = self.dropped.iter().map(|source| source.name.clone()).collect();
            for file in torn.into_iter().chain(behind) {
                self.save(&file, u64::MAX)?;
            }
        }
        let old = self.sources.control;
        let is_end_changed = self.is_end_lost || self.links.last().is_none_or(|link| link.is_changed);
        if !self.sources.has_control || is_end_changed || self.control.start_segment != old.start_segment {
            let last = self.links.last().map_or(self.control.start_segment, |link| link.number);
            self.control.clean = self.control.clean.filter(|_| !is_end_changed);
            self.control.opened_segment = match old.clean {
                Some(end) if self.control.clean.is_none() => end.segment.min(last),
                _ => old.opened_segment.min(last),
            };
            self.control.witness = self.witness.min(self.limit_behind());
            self.control.sequence = old.sequence + 2;
            if let Some(end) = old.clean.filter(|_| self.control.clean.is_none()) {
                let opened_segment = end.segment.max(old.opened_segment);
                let witness = old.witness.max(end.lsn);
                let sequence = old.sequence + 1;
                self.plan.actions.first_control =
                    Some(Control { clean: None, opened_segment, witness, sequence, ..old });
            }
            self.plan.actions.last_control = Some(self.control);
        }
        let written: Vec<String> =
            self.plan.actions.writes.iter().map(|write| name::segment(write.header.segment)).collect();
        self.plan.actions.removals.retain(|name| !written.contains(name));
        let sizes = self.sources.segments.values().map(|source| source.file_bytes);
        self.plan.actions.segment_bytes = sizes.max().unwrap_or(0).clamp(8 << 10, 1 << 30);
        let has_actions = !self.plan.actions.writes.is_empty()
            || !self.plan.actions.removals.is_empty()
            || self.plan.actions.last_control.is_some();
        if has_actions || is_torn || !self.plan.findings.is_empty() {
            self.plan.steps = self.steps();
        }
        let saved: u64 = self.plan.actions.quarantine.iter().map(|saved| saved.bytes).sum();
        let written: u64 = self.plan.actions.writes.iter().map(|write| written_bytes(&write.header)).sum();
        self.plan.bytes_needed = saved + written;
        self.plan.findings.sort_by_key(|finding| (finding.lsn, finding.offset));
        self.plan.losses.sort_by_key(|loss| loss.from);
        Ok(self.plan)
    }

    /// Nothing is left of any segment: the log is empty, and goes on past every LSN that may have been handed out.
    fn start_anew(&mut self) -> Result<()> {
        let old = self.sources.control;
        let number = old.clean.map_or(old.opened_segment, |end| end.segment).max(old.start_segment);
        let base = self.limit_behind().max(old.start).advance(UNKNOWN_END_JUMP).min(Lsn::LIMIT);
        let explanation = format!("no segment of the log can be used. The log is emptied, and goes on at LSN {base}");
        self.find(FindingKind::LostEnd, &name::segment(number), None, Some(old.start), explanation);
        self.lose(old.start, None, 0, true);
        let files: Vec<String> = self.sources.unusable.keys().map(|&number| name::segment(number)).collect();
        for file in files {
            self.save(&file, u64::MAX)?;
        }
        let header = SegmentHeader {
            log_id: old.log_id,
            segment: number,
            // Every epoch was begun with a new control file, so this one is new.
            epoch: old.sequence + 1,
            base,
            predecessor_end: base,
            predecessor_checksum: 0,
            witness: base,
            limit: base,
            sealed_end: None,
            created_micros: old.written_micros,
        };
        self.plan.actions.writes.push(Write { header, content: Content::Empty });
        self.control.start_segment = number;
        self.control.start = base;
        self.witness = base;
        Ok(())
    }

    fn steps(&self) -> Vec<Step> {
        let actions = &self.plan.actions;
        let step = |kind, file: &str, explanation: String| Step { kind, file_name: file.to_owned(), explanation };
        let saved = actions.quarantine.iter().map(|saved| {
            let explanation = format!("copy {} bytes to the quarantine", saved.bytes);
            step(StepKind::Quarantine, &saved.name, explanation)
        });
        let mut steps: Vec<Step> = saved.collect();
        for Write { header, content } in &actions.writes {
            let file = name::segment(header.segment);
            let end = header.sealed_end.unwrap_or(header.base);
            steps.push(match content {
                Content::Empty => step(StepKind::Create, &file, "put an empty segment in its place".to_owned()),
                Content::Adopted => step(StepKind::Adopt, &file, "give the replacement its name".to_owned()),
                Content::Runs { runs, .. } => {
                    let padding = if runs.len() > 1 { ", with padding where records are lost" } else { "" };
                    let explanation = format!("write again what is good, LSN {} to {end}{padding}", header.base);
                    step(StepKind::Rewrite, &file, explanation)
                }
            });
        }
        steps.extend(actions.removals.iter().map(|file| step(StepKind::Remove, file, "remove it".to_owned())));
        if let Some(control) = &actions.last_control {
            let explanation = format!("say that the log starts at LSN {} and was not closed", control.start);
            steps.push(step(StepKind::ReplaceControl, name::CONTROL, explanation));
        }
        let explanation = "open and close the log, which cuts what is torn and removes leftovers".to_owned();
        steps.push(step(StepKind::Recover, name::CONTROL, explanation));
        steps
    }
}

fn written_bytes(header: &SegmentHeader) -> u64 {
    header.offset_of(header.sealed_end.unwrap_or(header.base))
}
