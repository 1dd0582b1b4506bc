"""Word lists for titles, comments and names."""

FIRST_NAMES = (
    "Jane", "Omar", "Mei", "Lucía", "Søren", "Anaïs", "Piotr", "Noor", "Yuki", "Kofi",
    "Ивана", "נועה", "ليلى", "美咲", "Zoë", "Björn", "Chloé", "Tariq", "Ada", "Łukasz",
)  # fmt: skip
LAST_NAMES = (
    "Doe", "Nguyễn", "O’Brien", "García", "Müller", "Okafor", "Sato", "Rossi", "Haddad", "Novák",
    "Иванова", "כהן", "العلي", "田中", "Van der Berg", "Smith-Jones", "Åkesson", "Silva", "Khan", "Lee",
)  # fmt: skip
PARTS = (
    "dashboard", "export", "calendar", "search", "mobile app", "inbox", "billing page", "API", "reports",
    "onboarding", "dark mode", "integrations", "notifications", "team roles", "templates", "audit log",
)  # fmt: skip
TITLES = (
    "New: a faster {}", "Say hello to the {} 🎉", "We fixed the {}", "{}: what changed this month",
    "Maintenance window for the {}", "Coming soon: {}", "The {} now speaks עברית", "“Smart” {} & more <beta>",
)  # fmt: skip
WISHES = (
    "Please add shortcuts to the {}", "Let us sort the {}", "Bulk edit in the {}", "{} in two languages",
    "Webhook for the {}", "Make the {} accessible ♿", "تصدير {}", "Undo in the {}",
)  # fmt: skip
REMARKS = (
    "Love this, thank you!", "Finally 🙌🏽", "This broke my {} on Safari.", "When will the {} get this too?",
    "תודה רבה, עובד מצוין", "شكرا على {} الجديد", "素晴らしい!", "meh", "👍",
    "Line one\nline two about the {}",
    "Is there an \"off\" switch for the {}?", "Works for us in the {} – saves an hour a week.", "+1", "🤷‍♀️",
)  # fmt: skip
VERDICTS = (
    "Love this app!", "The {} is slow.", "Needs a better {}.", "ممتاز", "Would be a 10 with {}.", "🔥🔥🔥",
    "לא רע", "We could not work without the {}.", "Too many clicks to reach the {}.", "Good support, thanks.",
)  # fmt: skip
CATEGORIES = ("new", "improvement", "fix", "coming_soon", "announcement", "other")
WISH_CATEGORIES = ("bug", "feature", "improvement", "integration")
SEGMENTS = ("admins", "beta", "enterprise;eu", "trial")
CITIES = (("Barcelona", "Spain"), ("Lagos", "Nigeria"), ("Osaka", "Japan"), ("Haifa", "Israel"))
ORGANIZATIONS = ("Example", "Acme", "Globex", "Initech", "שלום בע״מ")
