DROP PROCEDURE eventstore_sequence(bigint, boolean, text, bigint, bigint);
DROP FUNCTION eventstore_refuse() CASCADE;
DROP FUNCTION eventstore_stamp() CASCADE;
