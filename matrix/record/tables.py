"""The published table lies beside the records that it is made of, and its JSON is not a record."""

TABLE_FILE = "compatibility.json"
"""The whole table, in the folder of the records."""

API_FOLDER = "api"
"""The folder of the small files, one a release: `api/vllm/0.19.1.json`."""

_FOLDERS = (f"/{API_FOLDER}/torch", f"/{API_FOLDER}/vllm")


def is_table(folder: str, name: str) -> bool:
    """Tell whether a JSON file is of a published table, and so not a record.

    `folder` is what the path of its folder has after that of the records: `/api/vllm`.
    """
    return name == TABLE_FILE or (folder.endswith(_FOLDERS) and name.endswith(".json"))
