"""Pictures of what was found: timelines of videos."""
