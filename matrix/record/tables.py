"""The published table lies in the folder of its records, and its JSON is not a record."""

TABLE_FILE = "compatibility.json"
"""The whole table, in the folder of the records."""

API_FOLDER = "api"
"""The folder of the small files, one a release: `api/vllm/0.19.1.json`."""

_FOLDERS = (f"/{API_FOLDER}/torch", f"/{API_FOLDER}/vllm")


def is_table(folder: str, name: str) -> bool:
    """Tell whether a JSON file is of a published table, and so not a record.

    `folder` is what the path of its folder has after that of the records.

    >>> is_table("/api/vllm", "0.19.1.json"), is_table("api/vllm", "0.19.1.json")
    (True, True)
    >>> is_table("my-api/vllm", "0.19.1.json"), is_table("cpu", "compatibility.json")
    (False, True)
    """
    return name == TABLE_FILE or (f"/{folder}".endswith(_FOLDERS) and name.endswith(".json"))
