"""Where this Pombo keeps media."""

from pombo.settings import Settings
from pombo.store.media_files import DirectoryFiles, MediaFiles, S3Files
from pombo.store.s3 import S3Bucket


def media_files(settings: Settings) -> MediaFiles:
    if settings.media_store_url is None:
        return DirectoryFiles(settings.pombo_data_dir / "media")
    secret = settings.media_store_secret_key
    return S3Files(
        S3Bucket(
            settings.media_store_url,
            settings.media_store_region,
            settings.media_store_access_key,
            secret.get_secret_value() if secret is not None else "",
        )
    )
