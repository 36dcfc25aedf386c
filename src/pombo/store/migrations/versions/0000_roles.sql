-- The three roles and Pombo's own schema. Roles belong to the whole server, so they may exist already.
-- pombo_owner owns all tables and migrates; pombo_worker passes row-level security; pombo_app is held by it.
DO $$
BEGIN
    BEGIN
        CREATE ROLE pombo_owner NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    BEGIN
        CREATE ROLE pombo_app NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
    BEGIN
        CREATE ROLE pombo_worker NOLOGIN BYPASSRLS;
    EXCEPTION
        WHEN duplicate_object OR unique_violation THEN NULL;
        WHEN insufficient_privilege THEN
            -- A managed server whose administrator may not grant BYPASSRLS: an owner's member passes it as well.
            CREATE ROLE pombo_worker NOLOGIN;
            GRANT pombo_owner TO pombo_worker;
    END;
    EXECUTE format('GRANT pombo_owner, pombo_worker, pombo_app TO %I', current_user);
END
$$;
CREATE SCHEMA IF NOT EXISTS pombo AUTHORIZATION pombo_owner;
GRANT CREATE ON SCHEMA public TO pombo_owner;
