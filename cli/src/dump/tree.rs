//! Records of a store's log, as `--payload tree` prints them.

use checkpoint::inspect::{CellInfo, ChangeInfo, ChangeKind, Description, ImageInfo, describe};
use serde_json::{Value, json};
use wal::RecordType;

use super::print::Head;
use crate::payload::{escaped, hex};

/// The most characters of a key in a table.
const KEY_CHARS: usize = 40;

/// What a record of a store's log says: for people, and as JSON. `None` if it is another record.
pub(super) fn told(head: &Head, payload: &[u8]) -> Option<(String, Value)> {
    let record_type = RecordType::new(head.record_type)?;
    Some(match describe(record_type, payload).filter(|_| !head.is_ignorable())? {
        Ok(description) => (words(&description), value(&description)),
        Err(error) => (format!("malformed: {}", error.reason), json!({ "malformed": error.reason })),
    })
}

fn words(description: &Description<'_>) -> String {
    match description {
        Description::Changes(changes) => changes.iter().map(change_words).collect::<Vec<_>>().join("; "),
        Description::Images(images) => {
            let images: Vec<String> = images.iter().map(image_words).collect();
            format!("images: {}", images.join("; "))
        }
        Description::Checkpoint { redo_lsn, sequence, pages_written } => {
            format!("checkpoint {sequence}: redo LSN {redo_lsn}, {pages_written} pages written")
        }
        _ => "unknown".to_owned(),
    }
}

fn change_words(change: &ChangeInfo<'_>) -> String {
    let what = match &change.kind {
        ChangeKind::Insert { slot, cell } => format!("insert slot {slot} {}", cell_words(cell)),
        ChangeKind::Replace { slot, cell } => format!("replace slot {slot} {}", cell_words(cell)),
        ChangeKind::Remove { slot } => format!("remove slot {slot}"),
        ChangeKind::RemoveRange { from, to } => format!("remove slots {from} to before {to}"),
        ChangeKind::InsertMany { cells } => {
            let cells: Vec<String> = cells.iter().map(cell_words).collect();
            format!("add {}", cells.join(", "))
        }
        ChangeKind::Format(image) => format!("becomes {}", image_words(image)),
        ChangeKind::Free { next } => format!("becomes free, next {}", or_dash(*next)),
        ChangeKind::SetMeta { root, depth, page_count, free_head, free_count } => format!(
            "meta: root {root}, {depth} levels, {page_count} pages, {free_count} free from {}",
            or_dash(*free_head)
        ),
        _ => "unknown change".to_owned(),
    };
    format!("page {} (was LSN {}) {what}", change.page, change.previous_lsn)
}

fn or_dash(page: Option<checkpoint::PageId>) -> String {
    page.map_or("-".to_owned(), |page| page.to_string())
}

fn cell_words(cell: &CellInfo<'_>) -> String {
    let mut text = format!("key \"{}\"", escaped(cell.key, KEY_CHARS));
    if let Some(bytes) = cell.value_bytes {
        text.push_str(&format!(" value {bytes} B"));
    }
    if let Some(page) = cell.overflow {
        text.push_str(&format!(" from page {page}"));
    }
    if let Some(page) = cell.child {
        text.push_str(&format!("{} child {page}", if cell.value_bytes.is_some() { " or" } else { "" }));
    }
    text
}

fn image_words(image: &ImageInfo) -> String {
    let cells = image.cells.map_or(String::new(), |cells| format!(" with {cells} cells"));
    format!("page {} {}{cells} at LSN {}", image.page, image.kind, image.lsn)
}

fn value(description: &Description<'_>) -> Value {
    match description {
        Description::Changes(changes) => json!({ "changes": changes.iter().map(change_value).collect::<Vec<_>>() }),
        Description::Images(images) => json!({ "images": images.iter().map(image_value).collect::<Vec<_>>() }),
        Description::Checkpoint { redo_lsn, sequence, pages_written } => json!({ "checkpoint": {
            "redo_lsn": redo_lsn.to_string(), "sequence": sequence, "pages_written": pages_written,
        } }),
        _ => Value::Null,
    }
}

fn change_value(change: &ChangeInfo<'_>) -> Value {
    let mut value = match &change.kind {
        ChangeKind::Insert { slot, cell } => json!({ "do": "insert", "slot": slot, "cells": [cell_value(cell)] }),
        ChangeKind::Replace { slot, cell } => json!({ "do": "replace", "slot": slot, "cells": [cell_value(cell)] }),
        ChangeKind::Remove { slot } => json!({ "do": "remove", "slot": slot }),
        ChangeKind::RemoveRange { from, to } => json!({ "do": "remove_range", "slot": from, "to_slot": to }),
        ChangeKind::InsertMany { cells } => {
            json!({ "do": "insert_many", "cells": cells.iter().map(cell_value).collect::<Vec<_>>() })
        }
        ChangeKind::Format(image) => json!({ "do": "format", "image": image_value(image) }),
        ChangeKind::Free { next } => json!({ "do": "free", "next": next.map(checkpoint::PageId::get) }),
        ChangeKind::SetMeta { root, depth, page_count, free_head, free_count } => json!({
            "do": "set_meta", "root": root.get(), "depth": depth, "page_count": page_count,
            "free_head": free_head.map(checkpoint::PageId::get), "free_count": free_count,
        }),
        _ => json!({ "do": "unknown" }),
    };
    value["page"] = json!(change.page.get());
    value["previous_lsn"] = json!(change.previous_lsn.to_string());
    value
}

fn cell_value(cell: &CellInfo<'_>) -> Value {
    json!({
        "key": hex(cell.key), "key_len": cell.key.len(), "value_len": cell.value_bytes,
        "overflow": cell.overflow.map(checkpoint::PageId::get), "child": cell.child.map(checkpoint::PageId::get),
    })
}

fn image_value(image: &ImageInfo) -> Value {
    json!({
        "page": image.page.get(), "page_lsn": image.lsn.to_string(), "kind": image.kind.to_string(),
        "page_bytes": image.page_bytes, "level": image.level, "cells": image.cells,
    })
}
